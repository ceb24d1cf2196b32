"""Whether a precision is safe for a model: SAFE, WATCH or BREAKS, with what speaks against it. Pure.

Thresholds stand here and in `loss_scales`, each with its reason.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from mpbench.numerics.findings import Findings, LayerOutput, WeightGradient, first_not_finite, first_vanished
from mpbench.numerics.limits import keeps_fewer_bits, limits_of
from mpbench.numerics.loss_scales import ENOUGH_LOG2, LOST_GRADIENT
from mpbench.numerics.statistics import total_unmoved_share
from mpbench.records.numerics import Pass, Safety

LITTLE_HEADROOM_LOG2 = float(ENOUGH_LOG2)
"""One batch's largest value says little of another's: one 8 times as large would overflow."""

LOST_OUTPUT = LOST_GRADIENT
"""Share of a layer's output that may become 0, as of a gradient. Any number of values may that are so small beside the
rest that the relative error stays below this too, such as those of dead channels; but not of outputs of which a loss is
made, which may take their logarithm."""

UNMOVED = 0.05
"""Share of the weights kept in half precision that an update may leave where they are. Micikevicius et al. 2017 (3.1)
find about 5 % of the gradients too small for float16 once they are multiplied by the learning rate, and lose 80 % of a
speech model's accuracy by updating float16 weights."""

MOSTLY_UNMOVED = 0.5
"""Share of all weights from which on a model is said not to train."""

NAMED = 3
"""Layers that a sentence names."""


@dataclass(frozen=True)
class Concern:
    """Something that speaks against a precision.

    Attributes:
        verdict: WATCH or BREAKS.
        where: the pass in which it is seen.
        layers: names, the worst or first one first; empty where no layer is to blame.
        sentence: for people.
        by_scale: whether another loss scale may help.
        in_layer: whether computing the layers in float32 may help.
    """

    verdict: Safety
    where: Pass
    layers: tuple[str, ...]
    sentence: str
    by_scale: bool = False
    in_layer: bool = True


@dataclass(frozen=True)
class Judgement:
    """A verdict and its reasons.

    Attributes:
        verdict: the worst of the concerns'; SAFE without one.
        concerns: BREAKS before WATCH, in the order of the step.
        margins: for people; what there is to spare.
    """

    verdict: Safety
    concerns: tuple[Concern, ...]
    margins: str

    @property
    def sentence(self) -> str:
        """The first concern, or the margins."""
        return self.concerns[0].sentence if self.concerns else self.margins


def judge(findings: Findings) -> Judgement:
    """What follows from the findings of one step.

    The loss scale that dynamic scaling begins with may overflow: it is halved until it does not, so that alone is no
    concern. Where values of the two precisions cannot be compared, only what is not finite and what is near overflow
    counts.
    """
    concerns = [*_forward(findings), *_backward(findings), *_update(findings)]
    concerns.sort(key=lambda one: -one.verdict.rank)
    verdict = concerns[0].verdict if concerns else Safety.SAFE
    return Judgement(verdict, tuple(concerns), _margins(findings))


def _forward(findings: Findings) -> Iterator[Concern]:
    broken = [one for one in findings.outputs if one.comparison.not_finite]
    if broken:
        yield _overflow(broken[0], findings.forward_reaches_the_end)
    elif not findings.forward_reaches_the_end:
        yield Concern(Safety.BREAKS, Pass.FORWARD, (), "the loss is not finite, though all outputs are")
    tight = [one for one in findings.outputs if 0 <= one.headroom_log2 < LITTLE_HEADROOM_LOG2]
    if tight:
        tight.sort(key=lambda one: one.headroom_log2)
        least = tight[0]
        yield Concern(
            Safety.WATCH,
            Pass.FORWARD,
            _owners(tight),
            f"{named([one.label for one in tight])}: the largest output is {least.comparison.largest:.3g}, "
            f"{least.headroom_log2:.1f} powers of two below {_limit(least.dtype)}",
        )
    if findings.unlike:
        return
    lost = [one for one in findings.outputs if _loses(one, findings.training)]
    if lost and not broken:
        lost.sort(key=lambda one: -one.lost_share)
        yield Concern(
            Safety.WATCH,
            Pass.FORWARD,
            _owners(lost),
            f"{named([one.label for one in lost])}: {_percent(lost[0].lost_share)} of the outputs that are not 0 in "
            f"float32 are 0 in {lost[0].dtype}",
        )


def _loses(output: LayerOutput, training: bool) -> bool:
    if output.alone or output.lost_share <= LOST_OUTPUT:
        return False
    return output.comparison.relative_error > LOST_OUTPUT or (training and output.is_output)


def _overflow(first: LayerOutput, harmless: bool) -> Concern:
    """Of the first output that is not finite."""
    of = first.comparison
    limit = limits_of(first.dtype)
    if first.alone:
        why = ""
    elif of.reference_largest > limit.largest:
        why = f": {of.reference_largest:.3g} in float32, beyond {_limit(first.dtype)}"
    else:
        why = f", though its values would fit ({of.reference_largest:.3g} in float32): something within it does not"
    layers = (first.owner,) if first.owner else ()
    if harmless:
        return Concern(
            Safety.WATCH,
            Pass.FORWARD,
            layers,
            f"{first.label} is not finite in the forward pass{why}; what follows is finite again",
        )
    return Concern(Safety.BREAKS, Pass.FORWARD, layers, f"{first.label} is not finite in the forward pass{why}")


def _backward(findings: Findings) -> Iterator[Concern]:
    scales = findings.scales
    if scales is None:
        return
    dynamic = scales.initial is not None
    if scales.settled is None:
        first = first_not_finite(findings.flows, [(one.layer, one.settled) for one in findings.gradients])
        at = "at any loss scale" if dynamic else "and no loss scale is lowered"
        yield Concern(
            Safety.BREAKS,
            Pass.BACKWARD,
            _layers([first]),
            f"{first}: its gradients are not finite {at}",
            by_scale=scales.high is not None,
        )
        return
    yield from _lost_gradients(findings)
    if dynamic and scales.low is not None and scales.width_log2 < LITTLE_HEADROOM_LOG2:
        yield Concern(
            Safety.WATCH,
            Pass.BACKWARD,
            _layers([findings.first_to_overflow]),
            f"only loss scales from {_power(scales.low)} to {_power(scales.high)} neither lose gradients nor overflow"
            + (f" (first in {findings.first_to_overflow})" if findings.first_to_overflow else ""),
        )
    if not dynamic:
        tight = [(limits_of(one.dtype).headroom_log2(one.largest), one) for one in findings.flows]
        tight = sorted(((room, one) for room, one in tight if room < LITTLE_HEADROOM_LOG2), key=lambda each: each[0])
        if tight:
            room, flow = tight[0]
            yield Concern(
                Safety.WATCH,
                Pass.BACKWARD,
                _layers(one.layer for _, one in tight),
                f"{named([one.layer for _, one in tight])}: the largest gradient is {flow.largest:.3g}, {room:.1f} "
                f"powers of two below {_limit(flow.dtype)}",
            )


def _lost_gradients(findings: Findings) -> Iterator[Concern]:
    if findings.unlike or findings.scales is None:
        return
    lost = lost_gradients(findings.gradients)
    if not lost:
        return
    worst = lost[0].settled_lost
    whole = [one for one in lost if one.settled_lost == 1]
    dynamic = findings.scales.initial is not None
    at = f"at the loss scale {_power(findings.scales.settled)}" if dynamic else "without loss scaling"
    if whole:
        source = first_vanished(findings.flows)
        yield Concern(
            Safety.BREAKS,
            Pass.BACKWARD,
            _layers([source, *(one.layer for one in whole)]),
            f"{named([one.weight for one in whole])}: all of the gradient is 0 {at}"
            + (f", from {source} on" if source else ""),
            by_scale=True,
        )
    if len(lost) > len(whole):
        yield Concern(
            Safety.WATCH,
            Pass.BACKWARD,
            _layers(one.layer for one in lost),
            f"{named([one.weight for one in lost])}: {_percent(worst)} of the gradient's values that are not 0 in "
            f"float32 are 0 {at}",
            by_scale=True,
        )


def lost_gradients(gradients: Iterable[WeightGradient]) -> list[WeightGradient]:
    """Those that lose more than LOST_GRADIENT at the settled scale, the worst first; what float32 does not know cannot
    be lost."""
    lost = [one for one in gradients if one.known and one.settled_lost > LOST_GRADIENT]
    return sorted(lost, key=lambda one: -one.settled_lost)


def _update(findings: Findings) -> Iterator[Concern]:
    broken = [(one.weight, one.layer) for one in findings.updates if one.not_finite]
    broken += findings.broken_state
    if broken:
        yield Concern(
            Safety.BREAKS,
            Pass.UPDATE,
            _layers(layer for _, layer in broken),
            f"{named([weight for weight, _ in broken])}: not finite after a step, kept in half precision",
        )
    low = [one for one in findings.updates if keeps_fewer_bits(one.kept_in)]
    if findings.unlike or not low:
        return
    share = total_unmoved_share(one.moved for one in low)
    still = [one for one in low if one.moved.unmoved_share == 1]
    if share > UNMOVED:
        worst = sorted(low, key=lambda one: -one.moved.unmoved)
        yield Concern(
            Safety.BREAKS if share > MOSTLY_UNMOVED else Safety.WATCH,
            Pass.UPDATE,
            _layers(one.layer for one in worst if one.moved.unmoved),
            f"an update is too small to move {_percent(share)} of the weights that are kept in {low[0].kept_in} "
            f"(most in {worst[0].weight})",
            in_layer=False,
        )
    elif still:
        yield Concern(
            Safety.WATCH,
            Pass.UPDATE,
            _layers(one.layer for one in still),
            f"{named([one.weight for one in still])}: an update is too small to move any of it in {still[0].kept_in}",
            in_layer=False,
        )


def _margins(findings: Findings) -> str:
    parts = []
    outputs = [one for one in findings.outputs if math.isfinite(one.headroom_log2) and not one.comparison.not_finite]
    if outputs:
        least = min(outputs, key=lambda one: one.headroom_log2)
        parts.append(
            f"the largest output ({least.label}) is {least.headroom_log2:.1f} powers of two below {_limit(least.dtype)}"
        )
    scales = findings.scales
    if scales is not None and scales.low is not None and scales.high is not None:
        window = f"loss scales from {_power(scales.low)} to {_power(scales.high)} serve"
        parts.append(window if scales.initial is None else f"{window}, {_power(scales.settled)} has settled")
    gradients = [one for one in findings.gradients if one.known]
    if gradients and not findings.unlike:
        most = max(gradients, key=lambda one: one.settled_lost)
        parts.append(
            f"{_percent(most.settled_lost)} of a gradient at most is lost ({most.weight})"
            if most.settled_lost
            else "nothing of a gradient is lost"
        )
    return "; ".join(parts)


def _owners(outputs: Iterable[LayerOutput]) -> tuple[str, ...]:
    return _layers(one.owner for one in outputs)


def _layers(names: Iterable[str]) -> tuple[str, ...]:
    """Each once; what stands in brackets is no layer."""
    return tuple(dict.fromkeys(name for name in names if name and not name.startswith("(")))


def named(labels: Sequence[str]) -> str:
    """The first few of some names."""
    labels = list(dict.fromkeys(labels))
    more = f" and {len(labels) - NAMED} more" if len(labels) > NAMED else ""
    return ", ".join(labels[:NAMED]) + more


def _limit(dtype: str) -> str:
    return f"{dtype}'s largest number, {limits_of(dtype).largest:.5g}"


def _power(exponent: int | None) -> str:
    return f"2^{exponent}"


def _percent(share: float) -> str:
    return "under 0.1 %" if 0 < share < 0.001 else f"{100 * share:.3g} %"

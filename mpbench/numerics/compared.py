"""A step in a precision beside the same one in float32: it compares its tensors with float32's as it goes.

It is traced once, as a function of the loss scale, and run at as many scales as it takes to find those that serve.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import keras
import tensorflow as tf

from mpbench.config.precisions import Precision
from mpbench.engine import device as devices
from mpbench.errors import CaseFailure
from mpbench.numerics import in_graph
from mpbench.numerics.findings import (
    KNOWN_GRADIENT,
    BackwardFlow,
    Findings,
    LayerOutput,
    WeightGradient,
    WeightUpdate,
    first_not_finite,
    lost_share,
)
from mpbench.numerics.limits import has_narrow_range, keeps_fewer_bits, limits_of
from mpbench.numerics.loss_scales import AtScale, LossScales, find_loss_scales
from mpbench.numerics.reference import Reference
from mpbench.numerics.statistics import Comparison, aligned
from mpbench.numerics.stepping import Stepping, after_update, copy_variables, gradients_of
from mpbench.numerics.watching import LOW_DTYPES, Recording, Seen

ON_CPU = (
    "on a CPU TensorFlow adds up half precision in half precision: large sums and means overflow or stall there "
    "that need not on a GPU"
)
"""A mean over 100 x 100 ones is 0.2 there in float16 (TensorFlow 2.21)."""


@dataclass(frozen=True)
class Run:
    """What was counted in one run, at one loss scale.

    Attributes:
        outputs, gradients, loss: compared with float32.
        flows: largest magnitude, and how many elements are not finite.
        lost: of each gradient, the share that is lost; see `findings.lost_share`.
        kept: the gradients themselves, where they are needed for an update.
    """

    outputs: list[Comparison]
    gradients: list[Comparison]
    flows: list[tuple[float, int]]
    loss: Comparison | None
    lost: list[float]
    kept: list[Any]

    @property
    def overflows(self) -> bool:
        """Whether dynamic loss scaling would skip the update."""
        return any(one.not_finite for one in self.gradients)


class Compared:
    """A model's step in a precision, compared with float32's.

    Args:
        reference: of float32.
        model: built in the precision; compiled if the reference is trained. It is given the reference's weights.
        precision: that it was built in.

    Attributes:
        precision: as given.
        findings: what was found.

    Raises:
        CaseFailure: it has other weights or gradients than in float32.
        Exception: whatever a user's step raises.
    """

    def __init__(self, reference: Reference, model: keras.Model, precision: Precision) -> None:
        self._reference, self.precision = reference, precision
        self._compute_dtype = str(keras.DTypePolicy(precision.policy).compute_dtype)
        copy_variables(reference.model, model)
        self._stepping = Stepping(model, reference.kind)
        self._runs: dict[int, Run] = {}
        self._broken_state: tuple[tuple[str, str], ...] = ()
        self._places: list[int | None] = []
        devices.check_tf32_is_apart(precision.tf32, precision.policy, reference.kind.device, reference.kind.jit)
        devices.set_tf32(precision.tf32)
        try:
            specs = [[tf.TensorSpec(one.shape, one.dtype) for one in tensors] for tensors in reference.tensors]
            self._call = self._stepping.trace(self._body, *specs, flows=not reference.kind.forward_only)
            self.findings = self._find()
        finally:
            devices.set_tf32(False)

    def layer(self, name: str) -> Any:
        """The layer of that name, as it is called in the findings; None where there is none."""
        return self._recording.layers.get(name)

    def with_initial_scale(self, exponent: int) -> Findings:
        """What is found if dynamic loss scaling begins with a scale of 2**exponent."""
        return self._with_backward(replace(self.findings, notes=()), 2.0**exponent)

    @property
    def _recording(self) -> Recording:
        return self._stepping.recording

    def _body(self, recording: Recording, scale: Any, outputs: Any, gradients: Any, losses: Any) -> Any:
        seen, one = recording.outputs, tf.constant(1.0)
        self._places = aligned(
            [each.token for each in self._reference.recording.outputs], [each.token for each in seen]
        )
        mine = [gradient for _, gradient in gradients_of(recording)]
        dtypes = [self._dtype_of(variable) for variable, _ in gradients_of(recording)]
        if [each.shape.as_list() for each in mine] != [each.shape.as_list() for each in gradients]:
            raise CaseFailure("its training step takes other gradients than in float32: there is nothing to compare")
        rows = (
            [
                in_graph.comparison(
                    _nothing_like(each) if place is None else outputs[place], each.tensor, each.tensor.dtype.name, one
                )
                for place, each in zip(self._places, seen, strict=True)
            ],
            [in_graph.comparison(*each, scale) for each in zip(gradients, mine, dtypes, strict=True)],
            [in_graph.magnitude(flow.tensor) for flow in recording.flows],
            [_of_loss(other, recording.loss, one) for other in losses if recording.loss is not None],
        )
        kept = mine if any(variable.dtype in LOW_DTYPES for variable, _ in gradients_of(recording)) else []
        return [tf.stack(each) if each else tf.zeros((0, 1)) for each in rows], kept

    def _run(self, exponent: int) -> Run:
        """At a loss scale of 2**exponent."""
        if exponent not in self._runs:
            rows, kept = self._stepping.run(self._call, 2.0**exponent, *self._reference.tensors)
            if not self._runs:
                self._broken_state = self._state_that_broke()
            self._stepping.restore()
            outputs, gradients, flows, losses = (one.numpy().tolist() for one in rows)
            read = in_graph.read_comparison
            compared = [read(row) for row in gradients]
            self._runs[exponent] = Run(
                [read(row) for row in outputs],
                compared,
                [(largest, int(count)) for largest, count in flows],
                read(losses[0]) if losses else None,
                self._lost_shares(compared, [largest for largest, _ in flows]),
                kept,
            )
        return self._runs[exponent]

    def _lost_shares(self, gradients: list[Comparison], flows: list[float]) -> list[float]:
        handed_back: dict[str, float] = {}
        for flow, largest in zip(self._recording.flows, flows, strict=True):
            handed_back[flow.name] = max(handed_back.get(flow.name, 0.0), largest)
        owners = [self._owner(variable) for variable, _ in gradients_of(self._recording)]
        # A first layer hands nothing back; what reaches it is what was handed back last.
        last = flows[-1] if flows else math.inf
        return [lost_share(of, handed_back.get(name, last)) for name, of in zip(owners, gradients, strict=True)]

    def _state_that_broke(self) -> tuple[tuple[str, str], ...]:
        """Of the variables that are kept in a lower dtype and not trained."""
        low = [one for one in self._stepping.state if one.dtype in LOW_DTYPES]
        broken = [one for one in low if not bool(tf.reduce_all(tf.math.is_finite(one.value)))]
        return tuple((str(one.path), self._owner(one)) for one in broken)

    def _owner(self, variable: Any) -> str:
        return self._recording.owners.get(id(variable), "")

    def _at(self, exponent: int) -> AtScale:
        run = self._run(exponent)
        if run.overflows:
            return AtScale(True, 1.0, -math.inf)
        largest = [
            (one.tensor.dtype.name, value) for one, (value, _) in zip(self._recording.flows, run.flows, strict=True)
        ]
        variables = [variable for variable, _ in gradients_of(self._recording)]
        largest += [(self._dtype_of(one), of.largest) for one, of in zip(variables, run.gradients, strict=True)]
        known = [lost for lost, noise in zip(run.lost, self._reference.noise, strict=True) if noise <= KNOWN_GRADIENT]
        room = min((limits_of(dtype).headroom_log2(value) for dtype, value in largest), default=math.inf)
        return AtScale(False, max(known, default=0.0), room)

    def _dtype_of(self, variable: Any) -> str:
        """That the layer of a weight computes in."""
        return str(getattr(self.layer(self._owner(variable)), "compute_dtype", None) or "float32")

    def _find(self) -> Findings:
        first, reference = self._run(0), self._reference
        seen = zip(self._recording.outputs, self._places, first.outputs, strict=True)
        found = Findings(
            precision=self.precision.name,
            compute_dtype=self._compute_dtype,
            training=reference.kind.training,
            outputs=tuple(_output(one, place, of) for one, place, of in seen),
            loss=first.loss,
            broken_state=self._broken_state,
            no_backward=reference.no_backward,
            unlike=reference.unlike,
            notes=(ON_CPU,) if reference.kind.device.kind == "cpu" and self._compute_dtype in LOW_DTYPES else (),
        )
        if not reference.kind.training or reference.kind.forward_only or not found.forward_reaches_the_end:
            return found
        return self._with_backward(found)

    def _with_backward(self, found: Findings, initial_scale: float | None = None) -> Findings:
        scales, notes = self._find_scales(initial_scale)
        chosen = self._run(min(self._runs) if scales.settled is None else scales.settled)
        above = sorted(e for e, run in self._runs.items() if run.overflows and (scales.high is None or e > scales.high))
        pairs = gradients_of(self._recording)
        names = [(str(variable.path), self._owner(variable), self._dtype_of(variable)) for variable, _ in pairs]
        unscaled = self._run(0)
        columns = (unscaled.gradients, chosen.gradients, unscaled.lost, chosen.lost, self._reference.noise)
        return replace(
            found,
            flows=self._flows(chosen),
            gradients=tuple(WeightGradient(*name, *row) for name, *row in zip(names, *columns, strict=True)),
            scales=scales,
            first_to_overflow=self._first_not_finite(self._run(above[0])) if above else "",
            updates=self._updates(chosen, 2.0 ** (scales.settled or 0)),
            notes=(*found.notes, *notes),
        )

    def _find_scales(self, initial: float | None) -> tuple[LossScales, tuple[str, ...]]:
        optimizers = [update.optimizer for update in self._recording.updates]
        scalers = [one for one in optimizers if isinstance(one, keras.optimizers.LossScaleOptimizer)]
        if self._recording.loss is not None and has_narrow_range(self._compute_dtype):
            initial = initial or min((float(one.initial_scale) for one in scalers), default=None)
            return find_loss_scales(self._at, initial), ()
        notes = ("its training step does not scale its loss: loss scales cannot be tried",) if scalers else ()
        return LossScales(None, None if self._run(0).overflows else 0, None, None), notes

    def _flows(self, run: Run) -> tuple[BackwardFlow, ...]:
        return tuple(
            BackwardFlow(one.name, one.tensor.dtype.name, largest, count)
            for one, (largest, count) in zip(self._recording.flows, run.flows, strict=True)
        )

    def _first_not_finite(self, run: Run) -> str:
        layers = [self._owner(variable) for variable, _ in gradients_of(self._recording)]
        return first_not_finite(self._flows(run), list(zip(layers, run.gradients, strict=True)))

    def _updates(self, run: Run, scale: float) -> tuple[WeightUpdate, ...]:
        if not keeps_fewer_bits(self._compute_dtype):
            return ()
        weights = [variable for variable, _ in gradients_of(self._recording)]
        not_finite = [0] * len(weights)
        if run.kept and not run.overflows:
            pairs = after_update(self._recording, run.kept, scale)
            not_finite = [in_graph.moved(*pair, self._compute_dtype).not_finite for pair in pairs]
        moved = {dtype: self._reference.moved(dtype) for dtype in LOW_DTYPES}
        return tuple(
            WeightUpdate(
                str(weight.path),
                self._owner(weight),
                str(weight.dtype),
                moved[weight.dtype if weight.dtype in LOW_DTYPES else self._compute_dtype][place],
                not_finite[place],
            )
            for place, weight in enumerate(weights)
        )


def _output(seen: Seen, place: int | None, comparison: Comparison) -> LayerOutput:
    return LayerOutput(
        seen.name,
        seen.kind,
        seen.call,
        seen.before,
        seen.owner,
        seen.tensor.dtype.name,
        comparison,
        place is None,
        seen.is_output,
    )


def _of_loss(reference: Any, loss: Any, one: Any) -> Any:
    return in_graph.comparison(reference, loss, loss.dtype.name, one)


def _nothing_like(seen: Seen) -> Any:
    """In place of an output that float32 does not have."""
    return tf.zeros_like(seen.tensor, tf.float32)

"""All that is said of one model in one setting: its speedups, accounts, layers and input, and what follows from them.

Pure: from `findings.Findings` to figures and sentences, which `page.py` shows as text and as JSON.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

from mpbench.records.diagnostics import LayerRecord
from mpbench.stats.intervals import Interval
from mpbench.why.reading import feed_verdict
from mpbench.why.reading.account import (
    CAUSES,
    KEPT,
    LABELS,
    UNCLASSED,
    UNEXPLAINED,
    Difference,
    Fed,
    Measured,
    Steps,
    account,
    difference,
    fed_of,
    measured,
    steps_of,
)
from mpbench.why.reading.findings import AnyFigure, Figure, Findings, interval_of
from mpbench.why.reading.roofline import COMPUTE, LAUNCH, MEMORY, Allowed, Peaks, Roof, allowed, peaks_of, roof

PHASES = ("training", "inference")

FASTER = 0.95
"""What takes at least this share of its time in the baseline did not get faster."""

NAMED_SHARE = 0.2
"""Of a step: what did not get faster and is less is no cause worth a sentence."""

MOST = 0.5

CLEAR_SAVING = 0.05
"""Of the baseline's step: where there is no interval, a saving that is taken for one."""

BUSY_SHARE = 0.1
"""Of all cores' time: from here on it is said that others computed too."""

WHOLE_WEIGHTS = 0.999
"""Share of a model's weights that all of its layers hold; the rest is for a factory's own."""


@dataclass(frozen=True)
class Headline:
    """A measured speedup.

    Attributes:
        baseline_seconds, seconds: medians per step.
        speedup: of paired rounds where there is an interval, else of the medians.
        interval: 95 %; None where the rounds do not pair.
        noisy: one of the two is.
        source: one of STEP_SOURCES.
    """

    baseline_seconds: float
    seconds: float
    speedup: float
    interval: Interval | None
    noisy: bool
    source: str

    @property
    def direction(self) -> int:
        """1 faster, -1 slower, 0 where nothing says so."""
        if self.interval is not None:
            return (self.interval.low > 1) - (self.interval.high < 1)
        saved = 1 - self.seconds / self.baseline_seconds
        return 0 if abs(saved) < CLEAR_SAVING else int(math.copysign(1, saved))


@dataclass(frozen=True)
class LayerChange:
    """A layer in the baseline and in a precision; seconds are of one call."""

    before: Figure[LayerRecord]
    after: Figure[LayerRecord]
    roof_before: Roof
    roof_after: Roof

    @property
    def saved(self) -> float:
        """Seconds in a step, of all layers that are like this one; negative where they take longer."""
        return self.before.seconds * self.before.record.count - self.after.seconds * self.after.record.count


@dataclass(frozen=True)
class Phase:
    """What there is to say of one phase of a model.

    Attributes:
        found: all that was measured of the model.
        name: one of PHASES.
    """

    found: Findings
    name: str

    @cached_property
    def peaks(self) -> Peaks:
        return peaks_of(self.found.peaks)

    @cached_property
    def steps(self) -> Steps | None:
        return steps_of(self.found, self.name)

    @cached_property
    def measured(self) -> dict[str, Measured]:
        """By precision, for all whose step was measured."""
        steps = self.steps.figures if self.steps else {}
        return {
            precision: measured(self.found, self.name, precision, figure.seconds, self.peaks)
            for precision, figure in steps.items()
        }

    @cached_property
    def accounts(self) -> dict[str, dict[str, float]]:
        return {precision: account(of) for precision, of in self.measured.items()}

    @property
    def others(self) -> list[str]:
        """The precisions that are compared with the baseline."""
        return [name for name in self.found.precisions if name != self.found.baseline] if self.found.baseline else []

    @cached_property
    def differences(self) -> dict[str, Difference]:
        base = self.measured.get(self.found.baseline or "")
        return {name: difference(base, self.measured[name]) for name in self.others if base and name in self.measured}

    @cached_property
    def headlines(self) -> dict[str, Headline]:
        """Of the speed cases where they have both, else of the steps of the accounts."""
        speed = {precision: figure for (phase, precision), figure in self.found.speed.items() if phase == self.name}
        found = {}
        for name in self.others:
            if (headline := self._headline(name, Steps("speed", speed))) or (
                self.steps and (headline := self._headline(name, self.steps))
            ):
                found[name] = headline
        return found

    def _headline(self, precision: str, steps: Steps) -> Headline | None:
        base, other = steps.figures.get(self.found.baseline or ""), steps.figures.get(precision)
        if base is None or other is None:
            return None
        interval = None
        if steps.source == "speed" and base.source == other.source:
            record = self.found.speed[self.name, precision].record
            interval = record.interval if record.baseline == self.found.baseline else None
        interval = interval or interval_of(base, other)
        speedup = interval.estimate if interval else base.seconds / other.seconds
        noisy = base.record.noisy or other.record.noisy
        return Headline(base.seconds, other.seconds, speedup, interval, noisy, steps.source)

    @cached_property
    def allowed(self) -> dict[str, Allowed]:
        """The speedup that the roofline would allow, where layers were measured."""
        layers = {name: of for (phase, name), of in self.found.layers.items() if phase == self.name}
        updates = None
        if self.name == "training":
            updates = {name: self.found.parts.get((name, "update")) for name in self.found.precisions}
        base = self.found.baseline or ""
        return {name: allowed(layers, updates, self.peaks, base, name) for name in self.others if name in layers}

    @cached_property
    def fed(self) -> dict[str, Fed]:
        seconds = {name: figure.seconds for name, figure in self.steps.figures.items()} if self.steps else {}
        fed = {name: fed_of(self.found, self.name, name, seconds.get(name)) for name in self.found.precisions}
        return {name: of for name, of in fed.items() if of}

    @cached_property
    def feed_verdicts(self) -> dict[str, feed_verdict.Judged]:
        batch_size = self.found.setting.batch_size
        whole = {
            name: feed_verdict.Fed(of.device, of.pipeline, of.fed, batch_size)
            for name, of in self.fed.items()
            if of.pipeline is not None
        }
        base = whole.get(self.found.baseline or "")
        return {
            name: feed_verdict.judged(name, whole[name], None if name == self.found.baseline else base)
            if name in whole
            else feed_verdict.judged_without_pipeline(name, of.device, of.fed)
            for name, of in self.fed.items()
        }

    def changes(self, precision: str) -> list[LayerChange]:
        """Layers measured in both, those first that gain or lose most."""
        before = self.found.layers.get((self.name, self.found.baseline or ""), {})
        after = self.found.layers.get((self.name, precision), {})
        changes = [
            LayerChange(before[n], after[n], roof(before[n], self.peaks), roof(after[n], self.peaks))
            for n in after
            if n in before
        ]
        return sorted(changes, key=lambda change: -abs(change.saved))

    @property
    def figures(self) -> dict[str, list[AnyFigure]]:
        """All that this phase is told from, by kind of case."""
        found, name = self.found, self.name
        return {
            "speed cases": [figure for (phase, _), figure in found.speed.items() if phase == name],
            "parts": list(found.parts.values()) if name == "training" else [],
            "layers": [one for (phase, _), of in found.layers.items() if phase == name for one in of.values()],
            "fed steps": [one for (phase, _), of in found.feeds.items() if phase == name for one in of.values()],
            "profiles": [figure for (phase, _), figure in found.profiles.items() if phase == name],
        }

    @cached_property
    def cautions(self) -> list[str]:
        """A line for each thing to know before believing a figure."""
        lines = []
        noisy = [
            f"{sum(one.record.noisy for one in of)} of {len(of)} {kind}"
            for kind, of in self.figures.items()
            if kind != "profiles" and any(one.record.noisy for one in of)
        ]
        if noisy:
            lines.append(f"NOISY: {', '.join(noisy)}: the time limit came before their intervals were narrow")
        shares = [one.record.others_cpu_share or 0.0 for of in self.figures.values() for one in of]
        if shares and max(shares) >= BUSY_SHARE:
            lines.append(f"others used up to {100 * max(shares):.0f} % of the CPU while this was measured")
        return [*lines, *self._incomplete()]

    def _incomplete(self) -> Iterable[str]:
        for (phase, precision), layers in self.found.layers.items():
            speed = self.found.speed.get((phase, precision))
            if phase != self.name or speed is None:
                continue
            held = sum(figure.record.parameters * figure.record.count for figure in layers.values())
            if held < WHOLE_WEIGHTS * speed.record.parameters:
                yield (
                    f"layers are missing: those measured in {precision} hold {held:,} of "
                    f"{speed.record.parameters:,} weights"
                )

    @cached_property
    def missing(self) -> list[str]:
        """A line for each thing that was not measured, with the command that does it."""
        found, lines = self.figures, []
        if self.steps is None:
            lines.append(_not_measured("the step", f"test_{self.name}.py"))
        if self.name == "training" and not found["parts"]:
            lines.append(_not_measured("forward, backward and update apart, casts", "test_step_parts.py"))
        if not found["layers"]:
            lines.append(_not_measured("layers", "test_layers.py"))
        elif not self.found.peaks:
            lines.append(_not_measured("peaks of this device, so that layers have no class", "test_layers.py"))
        if not found["fed steps"]:
            lines.append(_not_measured("the input", "test_input_pipeline.py"))
        if not found["profiles"]:
            lines.append(_not_measured("a profile", "test_profile.py"))
        return lines

    @cached_property
    def conclusions(self) -> list[str]:
        """What the figures support, in sentences; none where they support nothing."""
        said = [
            f"{self.name}: {verdict.sentence}."
            for verdict in self.feed_verdicts.values()
            if verdict.verdict == feed_verdict.INPUT_BOUND
        ]
        said += [_dominant(name, rows) for name, rows in self.accounts.items()]
        for name, of in self.differences.items():
            if headline := self.headlines.get(name):
                said += [_most_of_the_saving(name, of, headline), _not_faster(name, of)]
        return [sentence for sentence in said if sentence]


def _not_measured(what: str, file: str) -> str:
    return f"not measured: {what}: pytest bench/{file} --benchmark-autosave"


def dominant(rows: Mapping[str, float]) -> str | None:
    """The row that is most of a step, by key; None where none is, or more is unexplained than it could bear. Launch
    overhead is named with what is in no layer, see `launching`.

    Args:
        rows: of an account.
    """
    key = max((key for key in CAUSES if key in rows), key=lambda key: rows[key], default=None)
    if key is not None and _carries(rows, key, MOST):
        return key
    return LAUNCH if launching(rows) else None


def launching(rows: Mapping[str, float]) -> bool:
    """Whether most of a step is launching: most that its layers take is launch-bound, and with what is in no layer that
    is most of the step. What passes between two operations is in no layer that was timed alone."""
    layers = math.fsum(rows.get(key, 0.0) for key in (COMPUTE, MEMORY, LAUNCH, KEPT, UNCLASSED))
    launch, between = rows.get(LAUNCH, 0.0), rows.get(UNEXPLAINED, 0.0)
    return between > 0 and launch > MOST * layers and launch + between >= MOST * _whole(rows)


def _carries(rows: Mapping[str, float], key: str, share: float) -> bool:
    """Whether an account may name a row: it has that share, and neither it nor the step is less than is unexplained."""
    return rows[key] >= share * _whole(rows) and abs(rows[UNEXPLAINED]) <= min(rows[key], math.fsum(rows.values()))


def _whole(rows: Mapping[str, float]) -> float:
    """What shares in a sentence refer to: the step, or the sum of its parts where that is more."""
    return math.fsum(seconds for key, seconds in rows.items() if key != UNEXPLAINED or seconds > 0)


def share_in_words(rows: Mapping[str, float], key: str, of: str) -> str:
    """A row's share, such as `61 % of the float32 step`."""
    share = f"{100 * rows[key] / _whole(rows):.0f} %"
    if rows[UNEXPLAINED] < 0:
        return f"{share} of what the parts of the {of} step take one by one"
    return f"{share} of the {of} step"


def _dominant(precision: str, rows: Mapping[str, float]) -> str:
    key = dominant(rows)
    if key == LAUNCH and not _carries(rows, key, MOST):
        shares = [f"{100 * rows[row] / _whole(rows):.0f} %" for row in (LAUNCH, UNEXPLAINED)]
        return (
            f"Most of the {precision} step: launch overhead: {shares[0]} in launch-bound layers, {shares[1]} between "
            "layers, of which those are most."
        )
    return f"Most of the {precision} step: {LABELS[key]}, {share_in_words(rows, key, precision)}." if key else ""


def _most_of_the_saving(precision: str, of: Difference, headline: Headline) -> str:
    """Where most of what was won or lost is, if something clearly was, and not by what is unexplained."""
    direction = headline.direction
    total = direction * math.fsum(of.saved.values())
    if not direction or total <= 0:
        return ""
    gained = {key: direction * saved for key, saved in of.saved.items()}
    key = max(gained, key=lambda key: gained[key])
    if key not in CAUSES or gained[key] < MOST * total or abs(gained[UNEXPLAINED]) > gained[key] / 2:
        return ""
    what = "saves" if direction > 0 else "costs"
    return f"Most of what {precision} {what}: {LABELS[key]}, {_milliseconds(of, key)}."


def not_faster(of: Difference) -> str | None:
    """The largest row that did not get faster, by key; None where none is large enough to be named."""
    rows = of.after
    slow = [key for key in CAUSES if rows.get(key, 0.0) > 0 and rows[key] >= FASTER * of.before[key]]
    key = max(slow, key=lambda key: rows[key], default=None)
    return key if key is not None and _carries(rows, key, NAMED_SHARE) else None


def _not_faster(precision: str, of: Difference) -> str:
    key = not_faster(of)
    if key is None:
        return ""
    return (
        f"The largest part that did not get faster: {LABELS[key]}, {share_in_words(of.after, key, precision)} "
        f"({_milliseconds(of, key)})."
    )


def _milliseconds(of: Difference, key: str) -> str:
    return f"{1000 * of.before[key]:.3g} -> {1000 * of.after[key]:.3g} ms"


def explanation(found: Findings) -> list[Phase]:
    """What there is to say of a model, by phase; only phases of which something was measured."""
    phases = [Phase(found, name) for name in PHASES]
    return [phase for phase in phases if any(phase.figures.values())]

"""The account of a step: where its time goes, in rows that add up to the step as it was measured, nothing forced.

Pure functions of figures; docs/why.md says what each row assumes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from mpbench.records.diagnostics import LayerRecord
from mpbench.why.reading.findings import AnyFigure, Figure, Findings
from mpbench.why.reading.roofline import COMPUTE, LAUNCH, MEMORY, Peaks, compute_dtype, roof

UPDATE, KEPT, UNCLASSED, CASTS = "update", "kept-in-float32", "not-classed", "casts"
WHOLE, REST, UNEXPLAINED = "forward-and-backward", "rest", "unexplained"

LABELS = {
    UPDATE: "optimizer update",
    COMPUTE: "compute-bound layers",
    MEMORY: "memory-bound layers",
    LAUNCH: "launch-bound layers (launch overhead)",
    UNCLASSED: "layers of no class",
    KEPT: "layers kept in float32",
    CASTS: "casts of weights and gradients",
    WHOLE: "forward and backward pass, not split",
    REST: "rest: loss scaling, metrics",
    UNEXPLAINED: "unexplained",
}
"""The rows of an account, in their order."""

CAUSES = (UPDATE, COMPUTE, MEMORY, LAUNCH, KEPT, CASTS)
"""Rows that say why a step takes as long as it does."""

STEP_SOURCES = {
    "parts": "the step that was measured beside its parts",
    "speed": "the step of the speed cases",
    "feed": "the device step that was measured beside the fed one",
}


@dataclass(frozen=True)
class Steps:
    """The steps that accounts add up to.

    Attributes:
        source: one of STEP_SOURCES.
        figures: by precision, all from one kind of case.
    """

    source: str
    figures: Mapping[str, AnyFigure]


def steps_of(found: Findings, phase: str) -> Steps | None:
    """The steps of a phase: of the first source that has the baseline and another precision, else that has any."""
    sources: dict[str, dict[str, AnyFigure]] = {"parts": {}, "speed": {}, "feed": {}}
    for precision in found.precisions:
        if phase == "training" and (precision, "step") in found.parts:
            sources["parts"][precision] = found.parts[precision, "step"]
        if (phase, precision) in found.speed:
            sources["speed"][precision] = found.speed[phase, precision]
        if "device" in found.feeds.get((phase, precision), {}):
            sources["feed"][precision] = found.feeds[phase, precision]["device"]
    comparing = [name for name, of in sources.items() if found.baseline in of and len(of) > 1]
    name = next(iter([*comparing, *(name for name, of in sources.items() if of)]), None)
    return Steps(name, sources[name]) if name else None


@dataclass(frozen=True)
class Split:
    """A training step by its parts, in seconds; None where a part was not measured.

    Attributes:
        step, forward, gradients, update, casts: as measured, `forward` with the loss, `gradients` forward and backward.
    """

    step: float
    forward: float | None
    gradients: float | None
    update: float | None
    casts: float | None

    @property
    def backward(self) -> float | None:
        return None if self.gradients is None or self.forward is None else self.gradients - self.forward

    @property
    def rest(self) -> float | None:
        """Loss scaling and metrics: what is neither gradients nor update."""
        return None if self.gradients is None or self.update is None else self.step - self.gradients - self.update


def split_of(found: Findings, precision: str, step_seconds: float) -> Split:
    """A precision's training step by its parts."""
    parts = {part: figure.seconds for (of, part), figure in found.parts.items() if of == precision}
    names = ("forward", "gradients", "update", "casts")
    return Split(step_seconds, *(parts.get(name) for name in names))


@dataclass(frozen=True)
class Measured:
    """What an account is made of.

    Attributes:
        split: of the step; in inference only the step itself.
        layers: all of the model's layers that are like one, by its name: seconds in a step, less their casts.
        layers_seconds: sum of them with their casts; None where no layer was measured.
        casts: seconds taken out of the layers.
        rows: that each layer belongs to.
    """

    split: Split
    layers: Mapping[str, float]
    layers_seconds: float | None
    casts: float
    rows: Mapping[str, str]

    @property
    def predicted(self) -> float | None:
        """The sum over the layers and the update, where all that it takes was measured."""
        return None if self.layers_seconds is None else self.layers_seconds + (self.split.update or 0.0)


def measured(found: Findings, phase: str, precision: str, step_seconds: float, peaks: Peaks) -> Measured:
    """What there is for the account of one precision."""
    layers = found.layers.get((phase, precision), {})
    if phase == "training":
        split = split_of(found, precision, step_seconds)
    else:
        split = Split(step_seconds, None, None, None, None)
    seconds = {name: figure.seconds * figure.record.count for name, figure in layers.items()}
    casts = _casts(layers, split.casts or 0.0)
    return Measured(
        split,
        {name: seconds[name] - casts[name] for name in layers},
        math.fsum(seconds.values()) if layers else None,
        math.fsum(casts.values()) if layers else split.casts or 0.0,
        {name: row_of(figure, peaks) for name, figure in layers.items()},
    )


def row_of(figure: Figure[LayerRecord], peaks: Peaks) -> str:
    """The row of an account that a layer belongs to."""
    wanted = compute_dtype(figure.record.precision)
    if figure.record.compute_dtype == "float32" and wanted not in (None, "float32"):
        return KEPT
    return roof(figure, peaks).bound_by or UNCLASSED


def _casts(layers: Mapping[str, Figure[LayerRecord]], seconds: float) -> dict[str, float]:
    """The time of all casts, given to the layers by the bytes that they cast; none gets more than it takes itself."""
    bytes_ = {name: figure.record.cast_bytes * figure.record.count for name, figure in layers.items()}
    total = math.fsum(bytes_.values())
    return {
        name: min(seconds * bytes_[name] / total, figure.seconds * figure.record.count) if total else 0.0
        for name, figure in layers.items()
    }


def account(of: Measured, rows: Mapping[str, str] | None = None) -> dict[str, float]:
    """The rows of a step in seconds, in the order of LABELS; they add up to the step.

    Args:
        of: what was measured.
        rows: that each layer belongs to, if others than its own; a layer that is in none is left to `unexplained`.
    """
    rows = of.rows if rows is None else rows
    terms: dict[str, list[float]] = {}
    for name, seconds in of.layers.items():
        if name in rows:
            terms.setdefault(rows[name], []).append(seconds)
    if of.split.update is not None:
        terms[UPDATE] = [of.split.update]
    if of.casts:
        terms[CASTS] = [of.casts]
    if of.split.rest is not None:
        terms[REST] = [of.split.rest]
    if not of.layers and of.split.gradients is not None:
        terms[WHOLE] = [of.split.gradients, -of.casts]
    found = {key: math.fsum(terms[key]) for key in LABELS if key in terms}
    return found | {UNEXPLAINED: math.fsum([of.split.step, *(-seconds for seconds in found.values())])}


@dataclass(frozen=True)
class Difference:
    """What became of each row from the baseline to a precision, each layer in the row that it is in in the precision.

    Attributes:
        before, after: rows in seconds, with the same keys; each adds up to its step.
    """

    before: Mapping[str, float]
    after: Mapping[str, float]

    @property
    def saved(self) -> dict[str, float]:
        """By row; negative where it takes longer."""
        return {key: self.before[key] - self.after[key] for key in self.after}


def difference(baseline: Measured, precision: Measured) -> Difference:
    """The account of the saving."""
    rows = {name: row for name, row in precision.rows.items() if name in baseline.layers}
    before, after = account(baseline, rows), account(precision, rows)
    # A part that only one side has would look like a saving.
    one_sided = [key for key in (UPDATE, REST, WHOLE) if (key in before) != (key in after)]
    before, after = (_without(side, one_sided) for side in (before, after))
    keys = [key for key in LABELS if key in before or key in after]
    return Difference({k: before.get(k, 0.0) for k in keys}, {k: after.get(k, 0.0) for k in keys})


def _without(rows: Mapping[str, float], keys: list[str]) -> dict[str, float]:
    """The rows without some, whose time is then unexplained."""
    kept = {key: seconds for key, seconds in rows.items() if key not in keys}
    return kept | {UNEXPLAINED: math.fsum([rows[UNEXPLAINED], *(rows[key] for key in keys if key in rows)])}


@dataclass(frozen=True)
class Fed:
    """A step with its input, in seconds.

    Attributes:
        step: that the account adds up to.
        device: the same step, measured beside the fed one.
        fed: with its input.
        pipeline: for one batch, alone; None where it was not measured.
    """

    step: float
    device: float
    fed: float
    pipeline: float | None

    @property
    def rows(self) -> dict[str, float]:
        """What must be added to the step for the fed step: the input, and by how much the two device steps differ."""
        return {"input": self.fed - self.device, "measured-apart": self.device - self.step}


def fed_of(found: Findings, phase: str, precision: str, step_seconds: float | None) -> Fed | None:
    """The fed step of a precision, with the pipeline that fed it."""
    feeds = found.feeds.get((phase, precision), {})
    if "device" not in feeds or "fed" not in feeds:
        return None
    device, fed = feeds["device"], feeds["fed"]
    wanted = fed.record.workers, fed.record.cache, fed.record.data
    alone = [
        figure.seconds
        for figure in found.pipelines
        if (figure.record.workers, figure.record.cache, figure.record.data) == wanted
    ]
    step = device.seconds if step_seconds is None else step_seconds
    return Fed(step, device.seconds, fed.seconds, alone[-1] if alone else None)


def layer_types(found: Findings, phase: str, precision: str) -> dict[str, float]:
    """Seconds in a step of all layers of each type, casts included, longest first."""
    seconds: dict[str, list[float]] = {}
    for figure in found.layers.get((phase, precision), {}).values():
        seconds.setdefault(figure.record.layer_type, []).append(figure.seconds * figure.record.count)
    sums = {name: math.fsum(of) for name, of in seconds.items()}
    return dict(sorted(sums.items(), key=lambda item: -item[1]))


def adding_up(values: Mapping[str, float], unit: float) -> dict[str, int]:
    """Values in whole units that add up to their rounded sum: each is rounded up or down (largest remainders).

    Args:
        values: finite.
        unit: not zero.
    """
    scaled = {key: value / unit for key, value in values.items()}
    whole = {key: math.floor(value) for key, value in scaled.items()}
    missing = round(math.fsum(scaled.values())) - sum(whole.values())
    by_remainder = sorted(scaled, key=lambda key: whole[key] - scaled[key])
    return {key: whole[key] + (key in by_remainder[:missing]) for key in values}

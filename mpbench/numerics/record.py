"""What is saved of a model's numerics in one precision: flat, names and numbers, and one JSON text.

The text holds the concerns, the remedies that were tried and the worst layers; it is bounded, and checked when it is
read. Imports no TensorFlow.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from mpbench.numerics.findings import Findings, Pass
from mpbench.numerics.limits import limits_of
from mpbench.numerics.statistics import total_unmoved_share
from mpbench.numerics.verdict import Judgement, Verdict
from mpbench.records.fields import read_fields

NUMERICS_SCHEMA = 1
NUMERICS_SCHEMA_KEY = "mpbench_numerics_schema"

MAX_LAYERS = 20
MAX_CONCERNS = 8
MAX_TEXT = 400
"""Characters of a sentence; a name has less."""

DIGITS = 4
"""Of a number in the text."""


@dataclass(frozen=True)
class LayerNumerics:
    """The worst that was found of one layer, over all its calls and weights. What was not looked at is None.

    Attributes:
        name, type, dtype: name, class, dtype of its output.
        headroom_log2: of its largest output; negative where float32's is too large; None too where the output is 0, or
            not finite though float32's would fit.
        finite: whether its outputs are.
        lost, error: share of its outputs that is lost, and their relative error.
        backward_headroom_log2: of the largest gradient that it hands back, at the settled loss scale.
        backward_finite: whether what it hands back is.
        gradient_lost_unscaled, gradient_lost, gradient_error: of its weights, the share that is lost without loss
            scaling and at the settled scale, and the relative error.
        unmoved: share of its weights that an update would not move in half precision.
    """

    name: str
    type: str
    dtype: str
    headroom_log2: float | None = None
    finite: bool = True
    lost: float | None = None
    error: float | None = None
    backward_headroom_log2: float | None = None
    backward_finite: bool = True
    gradient_lost_unscaled: float | None = None
    gradient_lost: float | None = None
    gradient_error: float | None = None
    unmoved: float | None = None


@dataclass(frozen=True)
class SavedConcern:
    """A concern of the verdict, worst first.

    Attributes:
        verdict, where: names of a Verdict and of a Pass.
        layers: the first few that are to blame, comma-separated.
        sentence: for people.
    """

    verdict: str
    where: str
    layers: str
    sentence: str


@dataclass(frozen=True)
class SavedRemedy:
    """A remedy as it was measured.

    Attributes:
        what: for people.
        verdict: name of a Verdict; empty where it could not be tried.
        helps: whether that is better than without.
        sentence: for people.
    """

    what: str
    verdict: str
    helps: bool
    sentence: str


@dataclass(frozen=True, kw_only=True)
class NumericsRecord:
    """What one step in a precision shows beside the same step in float32.

    Attributes:
        model, precision, phase: what was looked at.
        device, device_name, batch_size, image_size, tf32: as in CaseRecord; image_size is 0 where there are no images.
        data: of its inputs: `synthetic`, or a name.
        verdict: name of a Verdict.
        sentence: why; what there is to spare where it is SAFE.
        layer, where: first layer to blame, and the pass; empty where there is none.
        headroom_log2, headroom_layer: powers of two from the largest output of a layer to its dtype's largest number;
            negative where it is not representable. None where all is 0 or not finite.
        output_lost, output_lost_layer: largest share of a layer's outputs that is lost; None where the two precisions
            cannot be compared.
        output_error: relative error of the model's outputs, the worst of them; None as above, or where not finite.
        loss_error: of the loss; None too where there is none.
        initial_scale_log2, settled_scale_log2: loss scale that dynamic scaling begins with, and settles on; None
            without it, or where all overflow.
        window_low_log2, window_high_log2: loss scales that neither lose gradients nor overflow; None where there are
            none, or they were not looked for.
        first_to_overflow: layer whose backward pass overflows first above the window.
        gradient_lost_unscaled, gradient_lost, gradient_lost_weight: largest share of a weight's gradient that is lost,
            without loss scaling and at the settled scale, and that weight; None where none was compared.
        gradient_error: relative error of a weight's gradient, the largest.
        unmoved_share: share of all weights that an update would not move in half precision; None where not looked at.
        no_backward: why there is no backward pass; else empty.
        unlike: why the precisions cannot be compared value by value; else empty.
        notes: what else should be known.
        seconds: that it took, with the remedies.
        details: JSON, see `as_details`.
    """

    model: str
    precision: str
    phase: str
    device: str
    device_name: str
    batch_size: int
    image_size: int
    tf32: bool
    data: str
    verdict: str
    sentence: str
    layer: str
    where: str
    headroom_log2: float | None
    headroom_layer: str
    output_lost: float | None
    output_lost_layer: str
    output_error: float | None
    loss_error: float | None
    initial_scale_log2: int | None
    settled_scale_log2: int | None
    window_low_log2: int | None
    window_high_log2: int | None
    first_to_overflow: str
    gradient_lost_unscaled: float | None
    gradient_lost: float | None
    gradient_lost_weight: str
    gradient_error: float | None
    unmoved_share: float | None
    no_backward: str
    unlike: str
    notes: str
    seconds: float
    details: str

    def as_extra_info(self) -> dict[str, Any]:
        return {NUMERICS_SCHEMA_KEY: NUMERICS_SCHEMA, **asdict(self)}

    @property
    def layers(self) -> list[LayerNumerics]:
        """The worst first."""
        return [LayerNumerics(**row) for row in _rows(self.details, "layers", LayerNumerics, MAX_LAYERS)]

    @property
    def concerns(self) -> list[SavedConcern]:
        return [SavedConcern(**row) for row in _rows(self.details, "concerns", SavedConcern, MAX_CONCERNS)]

    @property
    def remedies(self) -> list[SavedRemedy]:
        return [SavedRemedy(**row) for row in _rows(self.details, "remedies", SavedRemedy, MAX_CONCERNS)]


def is_numerics(extra_info: Mapping[str, Any]) -> bool:
    """Whether a benchmark's extra_info holds such a record."""
    return NUMERICS_SCHEMA_KEY in extra_info


def read_numerics(extra_info: Mapping[str, Any]) -> NumericsRecord:
    """The record in a benchmark's extra_info.

    Raises:
        ValueError: it is none, or cannot be: the message names the field.
    """
    record = NumericsRecord(**read_fields(NumericsRecord, extra_info, NUMERICS_SCHEMA_KEY, NUMERICS_SCHEMA))
    if record.verdict not in [one.value for one in Verdict]:
        raise ValueError(f"verdict: {record.verdict!r}: valid are {', '.join(one.value for one in Verdict)}")
    if record.where not in ["", *(one.value for one in Pass)]:
        raise ValueError(f"where: {record.where!r}: valid are {', '.join(one.value for one in Pass)}")
    for name in ("layers", "concerns", "remedies"):
        getattr(record, name)
    return record


def as_details(layers: Iterable[Any], concerns: Iterable[Any], remedies: Iterable[Any]) -> str:
    """The JSON text of a record: lists of LayerNumerics, SavedConcern and SavedRemedy."""
    parts = {"layers": layers, "concerns": concerns, "remedies": remedies}
    return json.dumps({name: [_bounded(asdict(one)) for one in rows] for name, rows in parts.items()}, allow_nan=False)


def _bounded(row: dict[str, Any]) -> dict[str, Any]:
    return {
        name: value[:MAX_TEXT] if isinstance(value, str) else rounded(value) if isinstance(value, float) else value
        for name, value in row.items()
        if value is not None
    }


def rounded(value: float) -> float | None:
    """To DIGITS digits; None where it is not finite."""
    return float(f"{value:.{DIGITS}g}") if math.isfinite(value) else None


def _rows(details: str, name: str, kind: Any, most: int) -> list[dict[str, Any]]:
    """The rows of one list in the JSON text; raises ValueError where they are not what was written."""
    try:
        rows = json.loads(details)[name]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"details: no {name} can be read") from error
    if not isinstance(rows, list) or len(rows) > most or not all(isinstance(row, dict) for row in rows):
        raise ValueError(f"details: {name} must be a list of at most {most} objects")
    types = {field.name: str(field.type) for field in fields(kind)}
    needed = {field.name for field in fields(kind) if str(field.type) == "str"}
    for row in rows:
        if not needed <= set(row) <= set(types) or not all(_fits(row[key], types[key]) for key in row):
            raise ValueError(f"details: one of {name} has fields that it cannot have")
    return rows


def _fits(value: Any, kind: str) -> bool:
    if kind == "str":
        return isinstance(value, str) and len(value) <= MAX_TEXT
    if kind == "bool":
        return isinstance(value, bool)
    return value is None or (isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value))


def worst_layers(findings: Findings, judgement: Judgement) -> list[LayerNumerics]:
    """At most MAX_LAYERS: those to blame first, in the order of the concerns, then those with least headroom."""
    rows = {one.name: one for one in layer_rows(findings)}
    blamed = [rows.pop(name) for concern in judgement.concerns for name in concern.layers if name in rows]

    def room(row: LayerNumerics) -> float:
        return math.inf if row.headroom_log2 is None else row.headroom_log2

    return [*blamed, *sorted(rows.values(), key=room)][:MAX_LAYERS]


def layer_rows(findings: Findings) -> list[LayerNumerics]:
    """What was found, by layer, in the order of the forward pass."""
    names = dict.fromkeys([one.owner or one.label for one in findings.outputs])
    names |= dict.fromkeys([one.layer for one in findings.gradients if one.layer])
    names |= dict.fromkeys([one.layer for one in findings.flows])
    return [_row(findings, name) for name in names]


def _row(findings: Findings, name: str) -> LayerNumerics:
    outputs = [one for one in findings.outputs if (one.owner or one.label) == name]
    flows = [one for one in findings.flows if one.layer == name]
    gradients = [one for one in findings.gradients if one.layer == name and one.known]
    moved = [one.moved for one in findings.updates if one.layer == name]
    compared = [] if findings.unlike else [one for one in outputs if not one.alone]
    dtype = outputs[-1].dtype if outputs else flows[0].dtype if flows else gradients[0].dtype if gradients else ""
    return LayerNumerics(
        name=name,
        type=next((one.kind for one in outputs if not one.before), ""),
        dtype=dtype,
        headroom_log2=_least(one.headroom_log2 for one in outputs),
        finite=not any(one.comparison.not_finite for one in outputs),
        lost=_most(one.lost_share for one in compared),
        error=_most(one.comparison.relative_error for one in compared),
        backward_headroom_log2=_least(limits_of(one.dtype).headroom_log2(one.largest) for one in flows),
        backward_finite=not any(one.not_finite for one in flows),
        gradient_lost_unscaled=None if findings.unlike else _most(one.unscaled_lost for one in gradients),
        gradient_lost=None if findings.unlike else _most(one.settled_lost for one in gradients),
        gradient_error=None if findings.unlike else _most(one.settled.relative_error for one in gradients),
        unmoved=total_unmoved_share(moved) if moved else None,
    )


def _least(values: Iterable[float]) -> float | None:
    return min((one for one in values if math.isfinite(one)), default=None)


def _most(values: Iterable[float]) -> float | None:
    return max((one for one in values if math.isfinite(one)), default=None)


def summary(findings: Findings, judgement: Judgement) -> dict[str, Any]:
    """The fields of a record that follow from what was found."""
    concern = judgement.concerns[0] if judgement.concerns else None
    outputs = [] if findings.unlike else [one for one in findings.outputs if not one.alone]
    roomy = [one for one in findings.outputs if math.isfinite(one.headroom_log2)]
    tightest = min(roomy, key=lambda one: one.headroom_log2, default=None)
    most_lost = max(outputs, key=lambda one: one.lost_share, default=None)
    gradients = [] if findings.unlike else [one for one in findings.gradients if one.known]
    worst = max(gradients, key=lambda one: (one.settled_lost, one.unscaled_lost), default=None)
    scales = findings.scales
    fields_of = {
        "verdict": judgement.verdict.value,
        "sentence": judgement.sentence,
        "layer": concern.layers[0] if concern and concern.layers else "",
        "where": concern.where.value if concern else "",
        "headroom_log2": tightest.headroom_log2 if tightest else None,
        "headroom_layer": tightest.label if tightest else "",
        "output_lost": most_lost.lost_share if most_lost else None,
        "output_lost_layer": most_lost.label if most_lost and most_lost.lost_share else "",
        "output_error": _most(one.comparison.relative_error for one in outputs if one.is_output),
        "loss_error": None if findings.unlike or findings.loss is None else _most([findings.loss.relative_error]),
        "initial_scale_log2": scales.initial if scales else None,
        "settled_scale_log2": scales.settled if scales and scales.initial is not None else None,
        "window_low_log2": scales.low if scales else None,
        "window_high_log2": scales.high if scales else None,
        "first_to_overflow": findings.first_to_overflow,
        "gradient_lost_unscaled": _most(one.unscaled_lost for one in gradients),
        "gradient_lost": worst.settled_lost if worst else None,
        "gradient_lost_weight": worst.weight if worst and (worst.settled_lost or worst.unscaled_lost) else "",
        "gradient_error": _most(one.settled.relative_error for one in gradients),
        "unmoved_share": total_unmoved_share(one.moved for one in findings.updates) if findings.updates else None,
        "no_backward": findings.no_backward,
        "unlike": findings.unlike,
        "notes": "; ".join(findings.notes),
    }
    return {name: value[:MAX_TEXT] if isinstance(value, str) else value for name, value in fields_of.items()}


def details_of(findings: Findings, judgement: Judgement, remedies: Sequence[Any]) -> str:
    """The JSON text of a record of what was found; remedies are as `remedies.Remedy`."""
    return as_details(
        worst_layers(findings, judgement),
        [
            SavedConcern(one.verdict.value, one.where.value, ", ".join(one.layers[:3]), one.sentence)
            for one in judgement.concerns[:MAX_CONCERNS]
        ],
        [
            SavedRemedy(one.what, one.verdict.value if one.verdict else "", one.helps, one.sentence)
            for one in remedies[:MAX_CONCERNS]
        ],
    )

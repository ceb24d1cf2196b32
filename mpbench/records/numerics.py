"""What is saved of a model's numerics in one precision: flat, names and numbers, and one JSON text.

The text holds the concerns, the remedies that were tried and the worst layers; it is bounded, and checked when it is
read.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from enum import Enum
from typing import Any

from mpbench.records.fields import MAX_CHARACTERS
from mpbench.records.limits import MAX_COUNT, MAX_SECONDS, check_ranges, ranges
from mpbench.records.measured import CaseKind, Record

MAX_LAYERS = 20
MAX_CONCERNS = 8
MAX_TEXT = 400
"""Characters of a sentence; a name has less."""

MAX_DETAILS = 100_000

DIGITS = 4
"""Of a number in the text."""


class Safety(str, Enum):
    """Of a model in a precision, from good to bad."""

    SAFE = "SAFE"
    WATCH = "WATCH"
    BREAKS = "BREAKS"

    @property
    def rank(self) -> int:
        return list(Safety).index(self)


class Pass(str, Enum):
    """Part of a step."""

    FORWARD = "forward"
    BACKWARD = "backward"
    UPDATE = "update"


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
        verdict, where: names of a Safety and of a Pass.
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
        verdict: name of a Safety; empty where it could not be tried.
        helps: whether that is better than without.
        sentence: for people.
    """

    what: str
    verdict: str
    helps: bool
    sentence: str


@dataclass(frozen=True, kw_only=True)
class NumericsRecord(Record):
    """What one step in a precision shows beside the same step in float32.

    Attributes:
        model, precision, phase: what was looked at.
        device, device_name, batch_size, image_size, tf32: as in SpeedRecord; image_size is 0 where there are no images.
        data: of its inputs: `synthetic`, or a name.
        verdict: name of a Safety.
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
    details: str = field(metadata={MAX_CHARACTERS: MAX_DETAILS})

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


RANGES = ranges(
    (("batch_size",), (1, MAX_COUNT)),
    (("image_size",), (0, MAX_COUNT)),
    (("output_lost", "gradient_lost_unscaled", "gradient_lost", "unmoved_share"), (0, 1)),
    (("headroom_log2", "settled_scale_log2", "window_low_log2", "window_high_log2", "initial_scale_log2"), (-400, 400)),
    (("seconds",), (0, MAX_SECONDS)),
)


class NumericsKind(CaseKind[NumericsRecord]):
    """Cases that look for where a precision hurts. Their one round is the seconds that it took: no figure of speed."""

    schema_key = "mpbench_numerics_schema"
    schema = 1

    def record_type(self, extra_info: Mapping[str, Any]) -> type[NumericsRecord]:
        return NumericsRecord

    def check(self, record: NumericsRecord) -> None:
        check_ranges(record, RANGES)
        if record.verdict not in [one.value for one in Safety]:
            raise ValueError(f"verdict: {record.verdict!r}: valid are {', '.join(one.value for one in Safety)}")
        if record.where not in ["", *(one.value for one in Pass)]:
            raise ValueError(f"where: {record.where!r}: valid are {', '.join(one.value for one in Pass)}")
        for name in ("layers", "concerns", "remedies"):
            getattr(record, name)


NUMERICS = NumericsRecord.kind = NumericsKind()


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

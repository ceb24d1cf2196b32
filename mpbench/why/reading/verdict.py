"""The verdict on a step: in at most six sentences why it takes what it takes, each carried by figures.

What belongs here: the sentences, when each may be said, and which are the most important. No advice without something
that was measured.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum

from mpbench.records.marks import Mark
from mpbench.records.profile import (
    CLASSES,
    COPIES,
    ELEMENTWISE,
    NORMALISATION,
    OPTIMIZER,
    OTHER_PRODUCTS,
    REDUCTIONS,
    TENSOR_CORES,
    LayerRow,
)
from mpbench.records.speed import SpeedRecord
from mpbench.why.reading.breakdown import IDLE, LONGER, Breakdown, By
from mpbench.why.reading.words import listed, ms, percent

MAX_SENTENCES = 6

HOST_BOUND_SHARE = 0.5
"""Idle share of a step from which on the device waits for most of it."""

PARTLY_HOST_BOUND_SHARE = 0.2
REASON_SHARE = 0.1
"""Share of the busy time below which something is no reason."""

SCHEDULED_SECONDS = 20e-6
"""Seconds of a step per operation on a CPU: above this, something other than scheduling lies between them."""

MAX_LISTED = 3
MOST_SHARE = 0.5
MAIN_TYPES = 0.75
"""The operation types that are named make up this share of their class."""

NOT_FASTER = 0.95
"""What takes more than this share of its time in the baseline has not got faster."""

CASTS = 0.02
"""Share of casts in normalisation's time; with fewer it computes in the dtype of its input."""

SINGLE_OPERATIONS = 10
"""Kernels per layer and step from which a layer is computed from single operations; a fused one takes 1 to 4."""

MULTIPLE = 8
"""Channels: tensor cores multiply float16 in tiles of 8 and 16 (NVIDIA, "Train with mixed precision")."""

IMAGE_CHANNELS = 4
"""An input with at most so many channels is an image, whose channels are no multiple of 8."""

_HALF = ("mixed_float16", "mixed_bfloat16", "float16", "bfloat16")


class Bound(Enum):
    """What a step waits for most: the words that its first sentence begins with."""

    HOST = Mark.HOST_BOUND.value
    PARTLY_HOST = "Partly host-bound"
    DEVICE = "Device-bound"
    LAUNCH = "Launch-bound"
    OPERATIONS = "Operations run"


@dataclass(frozen=True)
class ProfiledArm:
    """A precision with its breakdown.

    Attributes:
        name: of the precision; empty for a trace of which nothing is known.
        breakdown: of its step.
        compiled_seconds: of the same step with XLA, measured beside it; None where it was not, or this one is.
        other_batches: images per second by batch size, of a sweep; empty where there is none.
        batch_size: its own; None where it is not known.
        case: what was measured of it, beside its profile; None for a trace.
    """

    name: str
    breakdown: Breakdown
    compiled_seconds: float | None = None
    other_batches: Mapping[int, float] = field(default_factory=dict)
    batch_size: int | None = None
    case: SpeedRecord | None = None

    @property
    def tf32(self) -> bool:
        return self.case is not None and self.case.tf32

    @property
    def half(self) -> bool:
        return self.name in _HALF


_Reason = tuple[float, str]
"""Seconds of a step, and a sentence about them."""


def is_host_bound(breakdown: Breakdown) -> bool:
    """Whether a GPU waits for the host for most of a step."""
    return bound_of(breakdown) is Bound.HOST


def bound_of(breakdown: Breakdown) -> Bound:
    of, record = breakdown, breakdown.record
    if not record.on_device:
        scheduled = of.step_seconds <= SCHEDULED_SECONDS * record.kernels_per_step
        return Bound.LAUNCH if of.small_share >= MOST_SHARE and scheduled else Bound.OPERATIONS
    if of.idle_share >= HOST_BOUND_SHARE:
        return Bound.HOST
    return Bound.PARTLY_HOST if of.idle_share >= PARTLY_HOST_BOUND_SHARE else Bound.DEVICE


def verdict(arm: ProfiledArm, baseline: ProfiledArm | None = None, before: Sequence[str] = ()) -> list[str]:
    """The sentences on a step, the most important first.

    Args:
        baseline: of the same model and phase, that its speedup refers to.
        before: sentences that come first.
    """
    first = [*before, _bound(arm), *_tensor_cores(arm)]
    last = _tries(arm)
    reasons = sorted([*_reasons(arm), *_not_faster(arm, baseline)], key=lambda reason: -reason[0])
    reasons += _main_layers(arm)  # where there is room
    room = MAX_SENTENCES - len(first) - len(last)
    return [*first, *(text for _, text in reasons[:room]), *last]


def _bound(arm: ProfiledArm) -> str:
    of, bound = arm.breakdown, bound_of(arm.breakdown)
    kernels = of.record.kernels_per_step
    every = f"one every {1e6 * of.step_seconds / kernels:.3g} us"
    if bound is Bound.LAUNCH:
        return (
            f"{bound.value}: {percent(of.small_share)} of the {ms(of.step_seconds)} ms go by between operations or in "
            f"operations of at most 10 us, of {kernels:,.0f} operations a step."
        )
    if bound is Bound.OPERATIONS:
        return f"{bound.value} in {_working(of)}, {kernels:,.0f} operations a step."
    if bound is Bound.DEVICE:
        return f"{bound.value}: the GPU works in {_working(of)}."
    return (
        f"{bound.value}: the GPU waits for the host in {ms(of.idle_seconds)} of {ms(of.step_seconds)} ms "
        f"({percent(of.idle_share)}): {kernels:,.0f} kernels a step, {every}."
    )


def _working(of: Breakdown) -> str:
    if of.busy_seconds > of.step_seconds:
        return f"all of the {ms(of.step_seconds)} ms (under the profiler {ms(of.busy_seconds)})"
    return f"{ms(of.busy_seconds)} of {ms(of.step_seconds)} ms ({percent(1 - of.idle_share)})"


def _tensor_cores(arm: ProfiledArm) -> list[str]:
    of = arm.breakdown
    if not of.record.on_device or of.record.tensor_cores is False:
        return []
    on_them, others = of.class_seconds(TENSOR_CORES), of.class_seconds(OTHER_PRODUCTS)
    share = on_them / of.busy_seconds
    text = f"{percent(share)} of the busy time runs on tensor cores ({ms(on_them)} of {ms(of.busy_seconds)} ms"
    if others >= REASON_SHARE * of.busy_seconds:
        text += f"; other convolutions and matrix products {ms(others)} ms"
    return [f"{text})."]


def _reasons(arm: ProfiledArm) -> list[_Reason]:
    of = arm.breakdown
    found = [
        *_normalisation(arm),
        *_update(arm),
        *(() if of.record.on_device else _main_types(of, OTHER_PRODUCTS, "convolution and matmul: ")),
        *_main_types(of, REDUCTIONS, "reductions and pooling: "),
        *_main_types(of, ELEMENTWISE, "elementwise operations, which do little but read and write memory: "),
        *_main_types(of, COPIES, "copies, casts and layout: "),
        *(_odd_channels(arm) if arm.half and of.record.on_device else ()),
        *(_kept_in_float32(arm) if arm.half else ()),
    ]
    return [reason for reason in found if reason[0] >= REASON_SHARE * of.busy_seconds]


def _normalisation(arm: ProfiledArm) -> list[_Reason]:
    of = arm.breakdown
    rows = _rows_of(of, NORMALISATION)
    seconds = of.class_seconds(NORMALISATION)
    if not rows:
        return []
    alone = [row for row in rows if row.is_layer or row.type]  # what sums up other layers too says nothing of one
    layers = of.record.steps * of.record.devices * sum(row.layers for row in alone)
    per_layer = sum(row.kernels for row in alone) / max(layers, 1)
    casts = of.record.seconds(sum(row.cast_ns for row in rows))
    names = Counter(_normalisation_name(row) for row in rows)
    text = f"{names.most_common(1)[0][0]} takes {ms(seconds)} of {ms(of.busy_seconds)} ms"
    why = []
    if casts >= CASTS * seconds:
        why.append(f"it is computed in float32 ({ms(casts)} ms of it are casts)")
    fused = of.record.seconds(sum(row.fused_ns for row in rows))
    if per_layer >= SINGLE_OPERATIONS and fused < REASON_SHARE * seconds:
        why.append(f"from single operations ({per_layer:.0f} {_units(of)} a layer)")
    return [(seconds, f"{text}{': ' if why else ''}{' and '.join(why)}.")]


def _rows_of(of: Breakdown, kind: str) -> list[LayerRow]:
    """The rows that spend most of their time in a class."""
    return [row for row in of.record.rows if 2 * row.of_class(kind) > row.total_ns]


def _normalisation_name(row: LayerRow) -> str:
    name = row.type or row.name.lower()
    for kind in ("batch", "layer", "group", "unit", "rms"):
        if kind in name.lower():
            return f"{kind.capitalize()} normalisation"
    return "Batch normalisation" if re.search(r"(?:^|_|/)bn", name) else "Normalisation"


def _update(arm: ProfiledArm) -> list[_Reason]:
    of = arm.breakdown
    seconds = of.class_seconds(OPTIMIZER)
    number = sum(row.kernels for row in _rows_of(of, OPTIMIZER)) / (of.record.steps * of.record.devices)
    kept = ": its variables stay float32" if arm.name.startswith("mixed_") else ""
    return [(seconds, f"The optimizer's update takes {_of_busy(of, seconds)} in {number:,.0f} {_units(of)}{kept}.")]


def _main_types(of: Breakdown, kind: str, what: str) -> list[_Reason]:
    """The types of operations that make up most of a class."""
    whole = of.class_seconds(kind)
    named: list[str] = []
    seconds = 0.0
    for one in of.record.operations:
        if one.kind == kind and one.type and seconds < MAIN_TYPES * whole and len(named) < MAX_LISTED:
            named.append(one.type.lstrip("_"))
            seconds += of.record.seconds(one.ns)
    if seconds < MOST_SHARE * whole or not named:
        return []
    text = f"{listed(named)} {'take' if len(named) > 1 else 'takes'} {_of_busy(of, seconds)}"
    return [(seconds, f"{what[:1].upper()}{what[1:]}{text}.")]


def _odd_channels(arm: ProfiledArm) -> list[_Reason]:
    of = arm.breakdown
    rows = [row for row in of.record.rows if row.channels and _odd(*row.channels)]
    if not rows:
        return []
    seconds = sum(of.row_seconds(row) for row in rows)
    longest = max(rows, key=lambda row: row.total_ns)
    assert longest.channels
    example = f"{longest.name or longest.type} {longest.channels[0]} -> {longest.channels[1]}"
    kernel = f", and ran {longest.kernel.partition('(')[0].partition('<')[0][:50]}" if longest.kernel else ""
    moved = of.record.seconds(sum(row.of_class(COPIES) for row in rows))
    layout = f", {ms(moved)} ms of it copies and layout" if moved >= REASON_SHARE * seconds else ""
    many = f"{len(rows)} layers have" if len(rows) > 1 else "One layer has"
    text = f"{many} channels that are no multiple of {MULTIPLE}, {_of_busy(of, seconds)}{layout} ({example}{kernel})."
    return [(seconds, text)]


def _odd(inputs: int, outputs: int) -> bool:
    return bool((inputs % MULTIPLE and inputs > IMAGE_CHANNELS) or outputs % MULTIPLE)


def _kept_in_float32(arm: ProfiledArm) -> list[_Reason]:
    of = arm.breakdown
    rows = [row for row in of.record.rows if row.dtype == "float32"]
    if not rows:
        return []
    seconds = sum(of.row_seconds(row) for row in rows)
    largest = max(rows, key=lambda row: row.total_ns)
    number = sum(row.layers for row in rows)
    which = f"{largest.name or largest.type} is" if number == 1 else f"{number} layers are"
    return [(seconds, f"{which} kept in float32: {_of_busy(of, seconds)}.")]


def _main_layers(arm: ProfiledArm) -> list[_Reason]:
    """The type of layer, or the single layer, that takes most of the time, and in what class."""
    of = arm.breakdown
    by_type: defaultdict[str, list[LayerRow]] = defaultdict(list)
    for row in of.record.rows:
        if row.type or row.is_layer:
            by_type[row.type or row.name].append(row)
    if len(by_type) < 2:
        return []
    kind, rows = max(by_type.items(), key=lambda pair: sum(row.total_ns for row in pair[1]))
    seconds = sum(of.row_seconds(row) for row in rows)
    if seconds < MOST_SHARE * of.busy_seconds:
        return []
    number = sum(row.layers for row in rows)
    mostly = max(CLASSES, key=lambda kind: sum(row.of_class(kind) for row in rows))
    if mostly in (NORMALISATION, OPTIMIZER):  # has a sentence
        return []
    which = (
        f"{rows[0].name or kind}{f' ({kind})' if rows[0].type else ''} takes"
        if number == 1
        else f"{number} {kind} layers take"
    )
    return [(seconds, f"{which} {_of_busy(of, seconds)}, most of it {mostly}.")]


def _not_faster(arm: ProfiledArm, baseline: ProfiledArm | None) -> list[_Reason]:
    """The classes that take as long as in the baseline, and the wait."""
    if baseline is None:
        return []
    before, after = baseline.breakdown.rows(By.CLASS), arm.breakdown.rows(By.CLASS)
    least = REASON_SHARE * arm.breakdown.step_seconds
    slow = [
        name
        for name, seconds in sorted(after.items(), key=lambda row: -row[1])
        if 0 < before.get(name, 0.0) * NOT_FASTER <= seconds and seconds >= least and name != LONGER
    ][:MAX_LISTED]
    if not slow:
        return []
    idle = "the wait for the host" if arm.breakdown.record.on_device else "the time between operations"
    rows = [f"{idle if name == IDLE else name} {ms(before[name])} -> {ms(after[name])} ms" for name in slow]
    return [(after[slow[0]], f"Not faster than in {baseline.name}: {', '.join(rows)}.")]


def _tries(arm: ProfiledArm) -> list[str]:
    """What was measured to be faster."""
    of, found = arm.breakdown, []
    if arm.compiled_seconds and arm.compiled_seconds < NOT_FASTER * of.step_seconds:
        times = of.step_seconds / arm.compiled_seconds
        found.append(
            f"Try XLA: measured beside it, the step takes {ms(arm.compiled_seconds)} ms ({times:.2f} times as fast)."
        )
    if arm.batch_size and arm.other_batches:
        own = arm.batch_size / of.step_seconds
        batch, rate = max(arm.other_batches.items(), key=lambda pair: pair[1])
        if batch > arm.batch_size and rate * NOT_FASTER > own:
            found.append(f"Try a larger batch: at {batch} the sweep has {rate:,.0f} images/s, here {own:,.0f}.")
    return found


def _of_busy(of: Breakdown, seconds: float) -> str:
    return f"{ms(seconds)} of {ms(of.busy_seconds)} ms"


def _units(of: Breakdown) -> str:
    return "kernels" if of.record.on_device else "operations"

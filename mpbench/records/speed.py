"""What a speed case writes into pytest-benchmark's JSON, and how it is read back: names, types and a schema version.

What shows or judges figures reads these records only, never what measured them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from mpbench.records.arms import RATIOS, by_the_rounds
from mpbench.records.fields import MAX_CHARACTERS
from mpbench.records.limits import (
    MAX_AMOUNT,
    MAX_COUNT,
    MAX_RATIO,
    MAX_ROUNDS,
    MAX_SECONDS,
    MAX_SHARE,
    MIN_RATIO,
    check_ranges,
    ranges,
)
from mpbench.records.marks import Mark
from mpbench.records.measured import CaseKind, Measured, Record
from mpbench.records.profile import MAX_PROFILE_BYTES, read_profile
from mpbench.stats.intervals import Interval

PHASES = ("training", "inference")

FOR_WANT_OF_TIME, DRIFTING, BROKEN_OFF = "time", "drifting", "broken off"
"""Why a case is NOISY: its interval was not narrow in time; its figure moved meanwhile; it was ended early."""

_DOUBTS = {DRIFTING: Mark.DRIFTING, BROKEN_OFF: Mark.BROKEN_OFF}

RANGES = ranges(
    (("batch_size", "image_size", "steps_per_round", "replicas"), (1, MAX_COUNT)),
    (("skipped_steps", "warmup_skipped_steps", "warmup_rounds"), (0, MAX_COUNT)),
    (("parameters", "images_per_second", "peak_memory_bytes", "joules_per_step"), (0, MAX_AMOUNT)),
    (("first_step_seconds", "trace_seconds", "compile_seconds"), (0, MAX_SECONDS)),
    (("sm_clock_mhz", "memory_clock_mhz"), (0, MAX_COUNT)),
    (("others_cpu_share", "joules_spread"), (0, MAX_SHARE)),
    (("speedup", "speedup_low", "speedup_high"), (MIN_RATIO, MAX_RATIO)),
    (("reference_ratio", "reference_low", "reference_high"), (MIN_RATIO, MAX_RATIO)),
    (("rounds",), (1, MAX_ROUNDS)),
    (("loss_scale",), (0, 1e39)),  # it is a float32
    (("temperature_c",), (-273.15, 1e4)),
    (("utilisation_percent",), (0, 100)),
    (("power_limited_share",), (0, 1)),
    (("drift",), (0, MAX_RATIO)),
)

AGREEING = 1e-6
"""Relative: how far an estimate may lie outside its interval by rounding."""

_BLOCK_NUMBERS = {MAX_CHARACTERS: 7 * MAX_ROUNDS}


@dataclass(frozen=True)
class SpeedRecord(Record):
    """One case, as saved in `extra_info`.

    Attributes:
        model, precision, phase: what was measured.
        variant: what tells its group from another of the same model and phase; usually empty.
        control: a second, identical baseline arm.
        device, device_name: `gpu` or `cpu`; what TensorFlow calls it.
        profile, batch_size, image_size: as run; image_size in pixels.
        jit, tf32: whether XLA compiled the step; whether TF32 was allowed, on a device that has it.
        parameters: weights of the model with its head.
        images_per_second: at the median round.
        first_step_seconds: tracing, compiling and the first run.
        loss_scale: at the end; None without loss scaling.
        skipped_steps, warmup_skipped_steps: updates that loss scaling dropped, in measured rounds and before.
        peak_memory_bytes, memory_kind: `device` (allocator) or `host_rss` (the whole process's resident set).
        warmup_rounds, warmup_settled: rounds dropped before the first and where a visit begins; whether the series had
            become stationary when the first began.
        rounds, steps_per_round: figures kept, and steps behind each.
        unpaired_blocks: numbers of the blocks that left no round, comma-separated; the others number the rounds.
        noisy: its figure is not known to within the tolerance.
        noisy_because: FOR_WANT_OF_TIME, DRIFTING or BROKEN_OFF; empty where it is not noisy, or in older files.
        drift: by how much the figure moved slowly while it was measured, relative; None where that is within the
            tolerance or may be chance.
        visits: number of the first block of each visit, comma-separated: blocks of one follow each other, and other
            groups may have been measured between visits. Empty in older files, whose groups were measured in one.
        baseline: name of the precision that the speedup refers to; None for the baseline itself.
        speedup, speedup_low, speedup_high: baseline's time over this one's, with its 95 % interval; where their batches
            differ, of the time per image.
        point: of a sweep, as its label, such as `batch=8`; empty where nothing was swept.
        others_cpu_share: of all cores' time, what others used while the group was measured; None where unknown.
        mode: how its precision was run where a group runs it in several modes, such as `jit=on` or `replicas=2`.
        replicas: copies of the model that share the work of a step, each with a batch of batch_size.
        layout: of images, as Keras has it: `channels_last` (NHWC) or `channels_first`; the framework may transpose.
        trace_seconds: of first_step_seconds, tracing in Python.
        compile_seconds: of first_step_seconds, the first run beyond a later step: graph optimisation, XLA, autotuning.
        reference: the mode that reference_ratio refers to, `jit=off` or `replicas=1`; empty where there is none.
        reference_ratio, reference_low, reference_high: time of a step of the same precision in that mode over this
            one's, with its 95 % interval. XLA's speedup; of replicas the scaling efficiency, 1 being ideal.
        throttled_blocks: numbers of the blocks whose round was measured while the GPU was throttled, comma-separated.
        throttled: too few rounds were free of it, so that the figures are those of all rounds.
        sm_clock_mhz, memory_clock_mhz: median over the rounds.
        temperature_c: the highest, degrees Celsius.
        utilisation_percent: share of time in which a kernel ran, median over the passes in which energy was measured.
        power_limited_share: of the rounds, in which the clock was lowered to stay within the power limit.
        joules_per_step: median over passes of seconds each; all replicas together.
        joules_spread: largest less smallest pass, as a share of the median.
        compile_cached: whether what XLA compiled came from an earlier run: compile_seconds then says nothing of XLA.
        step_profile: of a few steps after the rounds, as text: see `records.profile`; empty where none was taken.
        no_step_profile: why none was taken although one was asked for; empty otherwise.
        data: that its factory gave, such as `own batch: x int32 32x128, y int32 32`; empty for synthetic images.
    """

    model: str
    precision: str
    phase: str
    variant: str
    control: bool
    device: str
    device_name: str
    profile: str
    batch_size: int
    image_size: int
    jit: bool
    tf32: bool
    parameters: int
    images_per_second: float
    first_step_seconds: float
    loss_scale: float | None
    skipped_steps: int
    warmup_skipped_steps: int
    peak_memory_bytes: int
    memory_kind: str
    warmup_rounds: int
    warmup_settled: bool
    rounds: int
    steps_per_round: int
    unpaired_blocks: str = field(metadata=_BLOCK_NUMBERS)
    noisy: bool
    baseline: str | None
    speedup: float | None
    speedup_low: float | None
    speedup_high: float | None
    others_cpu_share: float | None = None  # not in the first files of schema 1, as what follows
    point: str = ""
    mode: str = ""
    replicas: int = 1
    layout: str = ""
    trace_seconds: float | None = None
    compile_seconds: float | None = None
    reference: str = ""
    reference_ratio: float | None = None
    reference_low: float | None = None
    reference_high: float | None = None
    throttled_blocks: str = field(default="", metadata=_BLOCK_NUMBERS)
    throttled: bool = False
    sm_clock_mhz: float | None = None
    memory_clock_mhz: float | None = None
    temperature_c: float | None = None
    utilisation_percent: float | None = None
    power_limited_share: float | None = None
    joules_per_step: float | None = None
    joules_spread: float | None = None
    compile_cached: bool = False
    step_profile: str = field(default="", metadata={MAX_CHARACTERS: 4 * MAX_PROFILE_BYTES})
    no_step_profile: str = ""
    noisy_because: str = ""
    drift: float | None = None
    visits: str = ""
    data: str = ""

    @property
    def name(self) -> str:
        """The model, and what tells its figures from others of the same precision."""
        return " ".join(filter(None, [self.model, self.variant, self.mode]))

    @property
    def case_name(self) -> str:
        """Its name and arm, as notes about it call it."""
        return f"{self.name}-{'control' if self.control else self.precision}"

    @property
    def doubt(self) -> Mark | None:
        """What stands beside a figure that is noisy: why it is; None where it is not."""
        return _DOUBTS.get(self.noisy_because, Mark.NOISY) if self.noisy else None

    @property
    def joules_per_image(self) -> float | None:
        return None if self.joules_per_step is None else self.joules_per_step / (self.batch_size * self.replicas)

    @property
    def over_reference(self) -> Interval | None:
        """Scaling efficiency of replicas, or XLA's speedup: see `reference_ratio`."""
        return _interval(self.reference_ratio, self.reference_low, self.reference_high)

    @property
    def interval(self) -> Interval | None:
        return _interval(self.speedup, self.speedup_low, self.speedup_high)


def _interval(estimate: float | None, low: float | None, high: float | None) -> Interval | None:
    return None if estimate is None or low is None or high is None else Interval(estimate, low, high)


SpeedCase = Measured[SpeedRecord]


class SpeedKind(CaseKind[SpeedRecord]):
    """Cases that measure steps."""

    schema_key = "mpbench_schema"
    schema = 2  # 2 added the profile of a step

    def record_type(self, extra_info: Mapping[str, Any]) -> type[SpeedRecord]:
        return SpeedRecord

    def check(self, record: SpeedRecord) -> None:
        check_ranges(record, RANGES)
        for estimate, low, high in RATIOS.values():
            values = {name: getattr(record, name) for name in (low, estimate, high)}
            if missing := [name for name, value in values.items() if value is None]:
                if given := [name for name, value in values.items() if value is not None]:
                    raise ValueError(f"{missing[0]}: null, beside {given[0]}, {values[given[0]]}")
                continue
            if values[low] > values[high]:
                raise ValueError(f"{low}: {values[low]} is larger than {high}, {values[high]}")
            if not values[low] * (1 - AGREEING) <= values[estimate] <= values[high] * (1 + AGREEING):
                between = f"{low} and {high}, {values[low]}, {values[high]}"
                raise ValueError(f"{estimate}: {values[estimate]}: not between {between}")
        if record.speedup is not None and not record.baseline:
            raise ValueError(f"speedup: {record.speedup}, but no baseline that it refers to")
        if record.skipped_steps > (kept := record.rounds * record.steps_per_round):
            raise ValueError(f"skipped_steps: {record.skipped_steps}: valid are no more than the {kept} that were kept")
        if record.noisy_because not in (valid := ("", FOR_WANT_OF_TIME, DRIFTING, BROKEN_OFF)):
            raise ValueError(f"noisy_because: {record.noisy_because!r}: valid are {', '.join(filter(None, valid))}")
        if record.visits and not re.fullmatch(r"0(,[1-9]\d{0,6})*", record.visits):
            raise ValueError(f"visits: {record.visits[:40]!r}: valid are block numbers from 0 on, comma-separated")
        if record.step_profile:
            read_profile(record.step_profile)

    def completed(self, case: SpeedCase) -> SpeedCase:
        if not case.judged.rounds:
            raise ValueError("throttled_blocks: names the block of every round")
        r = case.record
        rate = r.replicas * r.batch_size / case.median_seconds
        return replace(case, record=replace(r, images_per_second=rate))

    def checked_together(self, cases: Mapping[str, SpeedCase]) -> tuple[Mapping[str, SpeedCase], list[str]]:
        """Ratios that a record claims and its rounds deny are replaced by those of the rounds."""
        changed, lines = by_the_rounds(cases)
        return {**cases, **{name: replace(cases[name], record=record) for name, record in changed.items()}}, lines


SPEED = SpeedRecord.kind = SpeedKind()

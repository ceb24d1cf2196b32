"""What a case writes into pytest-benchmark's JSON, and how it is read back: names, types and a schema version.

Everything right of the measurement (tables, and later history, gate and report) reads these records only. Flat and
small: numbers, names and flags, never tensors or lists.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np

from mpbench.statistics import Interval

SCHEMA = 1
SCHEMA_KEY = "mpbench_schema"


@dataclass(frozen=True)
class CaseRecord:
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
        warmup_rounds, warmup_settled: rounds dropped before the first; whether the series had become stationary.
        rounds, steps_per_round: figures kept, and steps behind each.
        unpaired_blocks: numbers of the blocks that left no round, comma-separated; the others number the rounds.
        noisy: the time limit came before the interval was within the tolerance.
        baseline: name of the precision that the speedup refers to; None for the baseline itself.
        speedup, speedup_low, speedup_high: baseline's time over this one's, with its 95 % interval.
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
    unpaired_blocks: str
    noisy: bool
    baseline: str | None
    speedup: float | None
    speedup_low: float | None
    speedup_high: float | None

    @property
    def name(self) -> str:
        """The model, and what tells its group from another."""
        return f"{self.model} {self.variant}".strip()

    @property
    def interval(self) -> Interval | None:
        if self.speedup is None or self.speedup_low is None or self.speedup_high is None:
            return None
        return Interval(self.speedup, self.speedup_low, self.speedup_high)

    def as_extra_info(self) -> dict[str, Any]:
        return {SCHEMA_KEY: SCHEMA, **asdict(self)}


def is_case(extra_info: Mapping[str, Any]) -> bool:
    """Whether a benchmark's extra_info was written by this suite."""
    return SCHEMA_KEY in extra_info


def read_case(extra_info: Mapping[str, Any]) -> CaseRecord:
    """The record in a benchmark's extra_info.

    Raises:
        ValueError: not ours, from a later version, or a field is missing; the message names it.
    """
    if not is_case(extra_info):
        raise ValueError(f"extra_info has no {SCHEMA_KEY}: not a case of mpbench")
    if extra_info[SCHEMA_KEY] != SCHEMA:
        raise ValueError(f"{SCHEMA_KEY} is {extra_info[SCHEMA_KEY]}: this version reads {SCHEMA}")
    missing = [f.name for f in fields(CaseRecord) if f.name not in extra_info]
    if missing:
        raise ValueError(f"extra_info lacks {', '.join(missing)}")
    return CaseRecord(**{f.name: extra_info[f.name] for f in fields(CaseRecord)})


@dataclass(frozen=True)
class Measured:
    """A case's record with its rounds, in seconds per step."""

    record: CaseRecord
    rounds: Sequence[float]

    @property
    def median_seconds(self) -> float:
        return float(np.median(self.rounds))

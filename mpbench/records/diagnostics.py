"""What the diagnostic cases write into pytest-benchmark's JSON, and how it is read back.

They have a schema of their own, so that the gate, the history and the tables of speedups never take one for a speed
case. Flat and small, as in `mpbench.records.speed`; their rounds are seconds, what one round did stands in each class.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, ClassVar

from mpbench.records.fields import MAX_CHARACTERS, quoted
from mpbench.records.limits import MAX_AMOUNT, MAX_COUNT, MAX_ROUNDS, MAX_SHARE, check_ranges, ranges
from mpbench.records.measured import CaseKind, Record

TYPE_KEY = "mpbench_diagnostic"
"""Key of the record's type in extra_info."""

RETIRED_TYPES = ("part", "layer", "profile")
"""Of earlier versions: isolated parts and layers, and profiles as cases of their own. They are passed over."""

INPUTS = ("device", "pipeline")


class Peak(str, Enum):
    """What a device can do at most: of a `PeakRecord`."""

    MATMUL = "matmul"
    COPY = "copy"
    LATENCY = "latency"


RANGES = ranges(
    (("rounds",), (1, MAX_ROUNDS)),
    (("steps_per_round", "images"), (1, MAX_COUNT)),
    (("batch_size", "image_size", "workers"), (0, MAX_COUNT)),  # a batch of 0 where the figure depends on none
    (("flops", "bytes"), (0, MAX_AMOUNT)),
    (("others_cpu_share",), (0, MAX_SHARE)),
)

CHOICES = {
    "phase": ("", "training", "inference"),
    "input": INPUTS,
    "cache": ("none", "memory", "disk"),
    "what": tuple(peak.value for peak in Peak),
}
"""Possible values of a field of text."""


@dataclass(frozen=True, kw_only=True)
class DiagnosticRecord(Record):
    """What all of them say of how they were measured.

    Attributes:
        model, precision, phase: as in SpeedRecord; empty where the figure depends on none.
        device, device_name, profile, batch_size, image_size, jit, tf32: as in SpeedRecord.
        rounds, steps_per_round, unpaired_blocks, noisy: as in SpeedRecord.
        others_cpu_share: as in SpeedRecord.
    """

    type: ClassVar[str]

    model: str
    precision: str
    phase: str
    device: str
    device_name: str
    profile: str
    batch_size: int
    image_size: int
    jit: bool
    tf32: bool
    rounds: int
    steps_per_round: int
    unpaired_blocks: str = field(metadata={MAX_CHARACTERS: 7 * MAX_ROUNDS})
    noisy: bool
    others_cpu_share: float | None = None

    def as_extra_info(self) -> dict[str, Any]:
        return {**super().as_extra_info(), TYPE_KEY: self.type}


@dataclass(frozen=True, kw_only=True)
class EndToEndRecord(DiagnosticRecord):
    """A step with its input; seconds per step.

    Attributes:
        input: `device`, one batch that stays on the device, or `pipeline`, batches from the input pipeline.
        workers, cache, data: of the pipeline; as in InputRecord.
    """

    type: ClassVar[str] = "end_to_end"

    input: str
    workers: int
    cache: str
    data: str


@dataclass(frozen=True, kw_only=True)
class InputRecord(DiagnosticRecord):
    """The input pipeline alone: reading, decoding, resizing and batching; seconds per batch.

    Attributes:
        workers: threads.
        cache: of decoded images: `none`, `memory` or `disk`.
        data: what tables call the images.
        images: how many different ones.
    """

    type: ClassVar[str] = "input"

    workers: int
    cache: str
    data: str
    images: int


@dataclass(frozen=True, kw_only=True)
class PeakRecord(DiagnosticRecord):
    """What the device can do at most, measured on the spot; seconds per operation.

    Attributes:
        what: `matmul`, a large product in the precision; `copy`, of a large array; `latency`, one tiny operation in a
            long chain of them.
        size: for people, such as `4096x4096x4096`.
        flops, bytes: of one operation; 0 where it is not about them.
    """

    type: ClassVar[str] = "peak"

    what: str
    size: str
    flops: float
    bytes: float


class DiagnosticKind(CaseKind[DiagnosticRecord]):
    """Cases that look for causes: of several types, told apart by `extra_info[TYPE_KEY]`."""

    schema_key = "mpbench_diagnostic_schema"
    schema = 1

    def record_type(self, extra_info: Mapping[str, Any]) -> type[DiagnosticRecord] | None:
        name = extra_info.get(TYPE_KEY)
        if name in RETIRED_TYPES:
            return None
        if not isinstance(name, str) or name not in RECORD_TYPES:
            raise ValueError(f"{TYPE_KEY}: {quoted(name)}: valid are {', '.join(RECORD_TYPES)}")
        return RECORD_TYPES[name]

    def check(self, record: DiagnosticRecord) -> None:
        check_ranges(record, RANGES)
        for name, choices in CHOICES.items():
            value = getattr(record, name, choices[0])
            if value not in choices:
                valid = ", ".join(choice or repr("") for choice in choices)
                raise ValueError(f"{name}: {value[:60]!r}: valid are {valid}")


RECORD_TYPES: dict[str, type[DiagnosticRecord]] = {one.type: one for one in (EndToEndRecord, InputRecord, PeakRecord)}
DIAGNOSTICS = DiagnosticRecord.kind = DiagnosticKind()

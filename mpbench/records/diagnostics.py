"""What the diagnostic cases write into pytest-benchmark's JSON, and how it is read back.

They have a schema of their own, so that the gate, the history and the tables of speedups never take one for a speed
case. Flat and small, as in `mpbench.records.speed`; their rounds are seconds, what one round did stands in each class.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import numpy as np

from mpbench.records.fields import read_fields

DIAGNOSTIC_SCHEMA = 1
DIAGNOSTIC_SCHEMA_KEY = "mpbench_diagnostic_schema"
KIND = "mpbench_diagnostic"
"""Key of the record's kind in extra_info."""

RETIRED_KINDS = ("part", "layer", "profile")
"""Of earlier versions: isolated parts and layers, and profiles as cases of their own. They are passed over."""

INPUTS = ("device", "pipeline")


@dataclass(frozen=True, kw_only=True)
class DiagnosticRecord:
    """What all of them say of how they were measured.

    Attributes:
        model, precision, phase: as in CaseRecord; empty where the figure depends on none.
        device, device_name, profile, batch_size, image_size, jit, tf32: as in CaseRecord.
        rounds, steps_per_round, unpaired_blocks, noisy: as in CaseRecord.
        others_cpu_share: as in CaseRecord.
    """

    kind: ClassVar[str]

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
    unpaired_blocks: str
    noisy: bool
    others_cpu_share: float | None = None

    def as_extra_info(self) -> dict[str, Any]:
        return {DIAGNOSTIC_SCHEMA_KEY: DIAGNOSTIC_SCHEMA, KIND: self.kind, **asdict(self)}


@dataclass(frozen=True, kw_only=True)
class EndToEndRecord(DiagnosticRecord):
    """A step with its input; seconds per step.

    Attributes:
        input: `device`, one batch that stays on the device, or `pipeline`, batches from the input pipeline.
        workers, cache, data: of the pipeline; as in InputRecord.
    """

    kind: ClassVar[str] = "end_to_end"

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

    kind: ClassVar[str] = "input"

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

    kind: ClassVar[str] = "peak"

    what: str
    size: str
    flops: float
    bytes: float


RECORDS: dict[str, type[DiagnosticRecord]] = {
    record.kind: record for record in (EndToEndRecord, InputRecord, PeakRecord)
}


@dataclass(frozen=True)
class DiagnosticCaseResult:
    """A record with its rounds, in seconds."""

    record: DiagnosticRecord
    rounds: Sequence[float]

    @property
    def median_seconds(self) -> float:
        return float(np.median(self.rounds))


def is_diagnostic(extra_info: Mapping[str, Any]) -> bool:
    """Whether a benchmark's extra_info was written by a diagnostic case."""
    return DIAGNOSTIC_SCHEMA_KEY in extra_info


def read_diagnostic(extra_info: Mapping[str, Any]) -> DiagnosticRecord:
    """The record in a benchmark's extra_info; raises ValueError as `mpbench.records.speed.read_case` does."""
    kind = extra_info.get(KIND)
    if is_diagnostic(extra_info) and (not isinstance(kind, str) or kind not in RECORDS):
        raise ValueError(f"{KIND}: {kind!r}: valid are {', '.join(RECORDS)}")
    record = RECORDS.get(str(kind), DiagnosticRecord)
    return record(**read_fields(record, extra_info, DIAGNOSTIC_SCHEMA_KEY, DIAGNOSTIC_SCHEMA))

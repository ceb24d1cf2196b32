"""The roofline: how fast a layer could be at most, and which of the device's limits is the nearest.

Pure functions. Three lower bounds of a layer's time in a step, each from what it must do and from what this device was
measured to do at most (Williams, Waterman and Patterson 2009, with the launch of its kernels as a third roof):

    compute  FLOPs / peak FLOP/s of its compute dtype
    memory   minimal bytes / bandwidth of a large copy
    launch   kernels x seconds of one tiny operation

The largest is its bound. Where a peak or a cost is missing there is none, never a guess.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum

from mpbench.config.precisions import PRECISIONS
from mpbench.records.diagnostics import Peak, PeakRecord
from mpbench.records.measured import Measured
from mpbench.records.profile import UPDATE, LayerRow
from mpbench.why.reading.breakdown import Breakdown, row_name


class Limit(str, Enum):
    """What bounds a layer's time, as JSON has it too."""

    COMPUTE = "compute"
    MEMORY = "memory"
    LAUNCH = "launch"


@dataclass(frozen=True)
class Peaks:
    """What a device can do at most; None where it was not measured.

    Attributes:
        flops_per_second: by compute dtype, and whether its products may be rounded to TF32.
    """

    flops_per_second: Mapping[tuple[str, bool], float] = field(default_factory=dict)
    bytes_per_second: float | None = None
    launch_seconds: float | None = None


def peaks_of(diagnostics: Iterable[Measured[PeakRecord]]) -> Peaks:
    """Peaks from their records, all of one device; of several figures of one peak the best one."""
    flops: dict[tuple[str, bool], float] = {}
    rates, latencies = [], []
    for diagnostic in diagnostics:
        r, seconds = diagnostic.record, diagnostic.median_seconds
        if r.what == Peak.MATMUL and r.flops > 0 and r.precision in PRECISIONS:
            dtype = PRECISIONS[r.precision].compute_dtype
            key = dtype, r.tf32 and dtype == "float32"
            flops[key] = max(flops.get(key, 0.0), r.flops / seconds)
        elif r.what == Peak.COPY and r.bytes > 0:
            rates.append(r.bytes / seconds)
        elif r.what == Peak.LATENCY:
            latencies.append(seconds)
    return Peaks(flops, max(rates, default=None), min(latencies, default=None))


@dataclass(frozen=True)
class Roof:
    """A layer under the roofline.

    Attributes:
        bounds: seconds of a step at least, by limit.
        seconds: of a step, as measured.
        flops, bytes: of a step.
    """

    bounds: Mapping[Limit, float]
    seconds: float
    flops: int
    bytes: int

    @property
    def bound_seconds(self) -> float:
        return max(self.bounds.values())

    @property
    def bound_by(self) -> Limit:
        return max(self.bounds, key=self.bounds.__getitem__)

    @property
    def fraction(self) -> float:
        """Share of the roof that is reached: 1 is the limit. Above 1 if data stayed in a cache."""
        return self.bound_seconds / self.seconds


def roofs(breakdown: Breakdown, dtype: str, tf32: bool, peaks: Peaks) -> dict[str, Roof]:
    """The bounds of a step's rows by name, without the rows that have none.

    Args:
        dtype: the precision's compute dtype, for rows that do not name their own.
        tf32: whether its products of float32 may be rounded.
    """
    record, found = breakdown.record, {}
    rate, latency = peaks.bytes_per_second, peaks.launch_seconds
    for row in record.rows:
        of = row.dtype or dtype
        peak = peaks.flops_per_second.get((of, tf32 and of == "float32"))
        if row.bytes and row.total_ns and peak and rate and latency:
            launches = row.kernels / (record.steps * record.devices)
            bounds = {
                Limit.COMPUTE: row.flops / peak,
                Limit.MEMORY: row.bytes / rate,
                Limit.LAUNCH: launches * latency,
            }
            found[row_name(row)] = Roof(bounds, breakdown.row_seconds(row), row.flops, row.bytes)
    return found


def allowed(breakdown: Breakdown, of: Mapping[str, Roof]) -> float | None:
    """Seconds that all layers and the update would take at their roofs; None unless each has a bound."""
    rows = [row_name(row) for row in breakdown.record.rows if _must_have_one(row)]
    return sum(of[name].bound_seconds for name in rows) if rows and set(rows) <= set(of) else None


def _must_have_one(row: LayerRow) -> bool:
    """All layers and the update. Other rows in brackets, such as the loss, need no bound."""
    return row.total_ns > 0 and (not row.name.startswith("(") or any(part == UPDATE for part, _ in row.ns))

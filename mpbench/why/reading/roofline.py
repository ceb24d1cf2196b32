"""The roofline: how fast a layer could be at most, and which of the device's limits is the nearest.

Pure functions. Three lower bounds of a layer's time, each from what it must do and from what this device was measured
to do at most (Williams, Waterman and Patterson 2009, "Roofline", with the launch of its kernels as a third roof):

    compute  flops / peak FLOP/s of its compute dtype
    memory   minimal bytes / bandwidth of a large copy
    launch   kernels x seconds of one tiny operation

The largest is its bound and names its class. Where a peak is missing there is neither, never a guess.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from mpbench.config.precisions import PRECISIONS
from mpbench.records.diagnostics import LayerRecord, PartRecord, PeakRecord
from mpbench.why.reading.findings import Figure

COMPUTE, MEMORY, LAUNCH = "compute-bound", "memory-bound", "launch-bound"
CLASSES = (COMPUTE, MEMORY, LAUNCH)


def compute_dtype(precision: str) -> str | None:
    """That a precision computes in; None for a name that is none."""
    return PRECISIONS[precision].compute_dtype if precision in PRECISIONS else None


def variable_dtype(precision: str) -> str | None:
    """That a precision keeps its weights in, and updates them."""
    policy = PRECISIONS[precision].policy if precision in PRECISIONS else None
    return "float32" if policy is not None and policy.startswith("mixed_") else policy


@dataclass(frozen=True)
class Peaks:
    """What a device can do at most.

    Attributes:
        flops_per_second: by compute dtype, and whether its products may be rounded to TF32.
        bytes_per_second, launch_seconds: by dtype.
    """

    flops_per_second: Mapping[tuple[str, bool], float] = field(default_factory=dict)
    bytes_per_second: Mapping[str, float] = field(default_factory=dict)
    launch_seconds: Mapping[str, float] = field(default_factory=dict)


def peaks_of(figures: Iterable[Figure[PeakRecord]]) -> Peaks:
    """Peaks from their records, all of one device; of two figures of one peak the better one."""
    flops: dict[tuple[str, bool], float] = {}
    bandwidth: dict[str, float] = {}
    launch: dict[str, float] = {}
    for figure in figures:
        record = figure.record
        dtype = compute_dtype(record.precision)
        if dtype is None:
            continue
        if record.what == "matmul" and record.flops > 0:
            key = dtype, _tf32(dtype, record.tf32)
            flops[key] = max(flops.get(key, 0.0), record.flops / figure.seconds)
        elif record.what == "copy" and record.bytes > 0:
            bandwidth[dtype] = max(bandwidth.get(dtype, 0.0), record.bytes / figure.seconds)
        elif record.what == "latency":
            launch[dtype] = min(launch.get(dtype, figure.seconds), figure.seconds)
    return Peaks(flops, bandwidth, launch)


@dataclass(frozen=True)
class Roof:
    """A layer under the roofline; None where a peak is missing or there is nothing to divide by.

    Attributes:
        compute_seconds, memory_seconds, launch_seconds: the three lower bounds of one call.
        flops_per_second, bytes_per_second: as achieved.
        flops_per_byte: arithmetic intensity.
        seconds: of one call, as measured.
    """

    compute_seconds: float | None
    memory_seconds: float | None
    launch_seconds: float | None
    flops_per_second: float
    bytes_per_second: float
    flops_per_byte: float | None
    seconds: float

    @property
    def bound_seconds(self) -> float | None:
        """The largest of the three; None unless all are known."""
        bounds = [b for b in (self.compute_seconds, self.memory_seconds, self.launch_seconds) if b is not None]
        return max(bounds) if len(bounds) == len(CLASSES) else None

    @property
    def bound_by(self) -> str | None:
        """One of CLASSES: which of the three is the largest. None where there is no bound, or nothing to be done."""
        if not self.bound_seconds:
            return None
        bounds = (self.compute_seconds, self.memory_seconds, self.launch_seconds)
        return CLASSES[bounds.index(self.bound_seconds)]

    @property
    def fraction(self) -> float | None:
        """Of the roof that is reached: 1 is as fast as can be. Above 1 where data stayed in a cache."""
        return None if self.bound_seconds is None else self.bound_seconds / self.seconds


def roof(figure: Figure[LayerRecord], peaks: Peaks) -> Roof:
    """One call of a layer under the roofline.

    A layer that launches nothing computes and moves nothing (a reshape). One that launches something moves something,
    and with weights it mostly computes something: 0 bytes, or 0 FLOPs with weights, were not counted.
    """
    record, dtype = figure.record, figure.record.compute_dtype
    compute: float | None = 0.0
    memory: float | None = 0.0
    launch: float | None = 0.0
    if record.kernels:
        compute = _quotient(record.flops, peaks.flops_per_second.get((dtype, _tf32(dtype, record.tf32))))
        if not record.flops:
            compute = None if record.parameters else 0.0
        memory = _quotient(record.minimal_bytes, peaks.bytes_per_second.get(dtype))
        latency = peaks.launch_seconds.get(dtype)
        launch = None if latency is None else record.kernels * latency
    return Roof(
        compute,
        memory,
        launch,
        record.flops / figure.seconds,
        record.minimal_bytes / figure.seconds,
        record.flops / record.minimal_bytes if record.minimal_bytes else None,
        figure.seconds,
    )


@dataclass(frozen=True)
class Allowed:
    """The speedup that the roofline would allow.

    Attributes:
        baseline_seconds, seconds: sums of the bounds in the baseline and in the precision.
        missing: why there is none, in words; empty where there is.
    """

    baseline_seconds: float = 0.0
    seconds: float = 0.0
    missing: str = ""

    @property
    def speedup(self) -> float | None:
        return None if self.missing or not self.seconds else self.baseline_seconds / self.seconds


def allowed(
    layers: Mapping[str, Mapping[str, Figure[LayerRecord]]],
    updates: Mapping[str, Figure[PartRecord] | None] | None,
    peaks: Peaks,
    baseline: str,
    precision: str,
) -> Allowed:
    """The sum of the bounds of all layers in the baseline over the sum in a precision.

    Args:
        layers: by precision and name.
        updates: in training the optimizer's update by precision, its bound is the time to move its minimal bytes;
            None in inference.
        baseline, precision: names.
    """
    sums: list[float] = []
    for name in (baseline, precision):
        of = layers.get(name, {})
        if set(of) != set(layers.get(baseline, {})) or not of:
            return Allowed(missing=f"not every layer was measured in {baseline} and {precision}")
        bounds = [roof(figure, peaks).bound_seconds for figure in of.values()]
        if None in bounds:
            return Allowed(
                missing=f"some layers in {name} have no bound: a peak was not measured, or a cost not counted"
            )
        total = math.fsum((b or 0.0) * f.record.count for b, f in zip(bounds, of.values(), strict=True))
        if updates is not None:
            update = update_bound(updates.get(name), peaks)
            if update is None:
                return Allowed(missing=f"nothing says how long the update in {name} takes at least")
            total += update
        sums.append(total)
    if not sums[1]:
        return Allowed(missing="the layers have nothing to do")
    return Allowed(sums[0], sums[1])


def update_bound(figure: Figure[PartRecord] | None, peaks: Peaks) -> float | None:
    """Seconds to move what an optimizer's update must read and write; None where no one has counted, or no peak."""
    if figure is None or not figure.record.minimal_bytes:
        return None
    dtype = variable_dtype(figure.record.precision)
    return _quotient(figure.record.minimal_bytes, peaks.bytes_per_second.get(dtype or ""))


def _tf32(dtype: str, tf32: bool) -> bool:
    """TF32 concerns products of float32 alone."""
    return tf32 and dtype == "float32"


def _quotient(amount: float, per_second: float | None) -> float | None:
    return amount / per_second if amount and per_second else None

"""Records of diagnostic cases, and profiles of steps, of measurements that nobody made."""

from dataclasses import replace
from datetime import datetime
from pathlib import Path

from case_records import record

from mpbench.records.diagnostics import EndToEndRecord, InputRecord, PeakRecord
from mpbench.records.measured import Measured
from mpbench.records.profile import (
    BACKWARD,
    COPIES,
    ELEMENTWISE,
    FORWARD,
    NORMALISATION,
    OPTIMIZER,
    OTHER_PRODUCTS,
    TENSOR_CORES,
    UPDATE,
    LayerRow,
    Operations,
    ProfileRecord,
)
from mpbench.records.runs import SavedRun

COMMON = {
    "model": "vgg16",
    "precision": "float32",
    "phase": "training",
    "device": "gpu",
    "device_name": "NVIDIA V100",
    "profile": "paper",
    "batch_size": 64,
    "image_size": 224,
    "jit": True,
    "tf32": False,
    "rounds": 6,
    "steps_per_round": 1,
    "unpaired_blocks": "",
    "noisy": False,
    "others_cpu_share": 0.01,
}
PLACES = {
    "peak": "bench/test_peaks.py::test_peak",
    "end_to_end": "bench/test_input_pipeline.py::test_end_to_end_step",
    "input": "bench/test_input_pipeline.py::test_pipeline",
}
"""Node ids without their parameters."""

TELLING = ("model", "phase", "precision", "input", "what", "cache")
NS = 1_000_000
"""Of a millisecond."""


def diagnostic_name(record):
    """A node id that no two cases of one session share."""
    values = [str(getattr(record, name)) for name in TELLING if getattr(record, name, "")]
    return f"{PLACES[record.type]}[{'-'.join(values)}]"


def end_to_end(which, ms, precision="float32", phase="training", **changes):
    fields = {"workers": 8, "cache": "none", "data": "dogs-vs-cats.zip"}
    return _result(EndToEndRecord, ms, input=which, precision=precision, phase=phase, **fields | changes)


def pipeline(ms, **changes):
    fields = {"workers": 8, "cache": "none", "data": "dogs-vs-cats.zip", "images": 1000}
    nothing = {"model": "", "precision": "", "phase": ""}
    return _result(InputRecord, ms, **nothing | fields | changes)


def peak(what, ms, precision="float32", **changes):
    """A product of 1e9 FLOPs, a copy of 1e6 bytes, or one tiny operation."""
    fields = {"size": "big", "flops": 1e9 if what == "matmul" else 0.0, "bytes": 1e6 if what == "copy" else 0.0}
    nothing = {"model": "", "phase": "", "batch_size": 0, "image_size": 0}
    return _result(PeakRecord, ms, what=what, precision=precision, **nothing | fields | changes)


def peaks(precisions=("float32", "mixed_float16"), **changes):
    """float32: 1 TFLOP/s; float16: 4 TFLOP/s; 100 GB/s, 5 us for a tiny operation."""
    products = {"float32": 1.0, "mixed_float16": 0.25}
    return [
        *(peak("matmul", products[precision], precision, **changes) for precision in precisions),
        peak("copy", 0.01, **changes),
        peak("latency", 0.005, **changes),
    ]


def row(name, ms, kind=TENSOR_CORES, part=FORWARD, **fields):
    """A layer's row of a profile, in milliseconds per step."""
    return LayerRow(name, **{"type": "Conv2D", "kernels": 10, "ns": {(part, kind): int(ms * NS)}} | fields)


def profile(*rows, on_device=True, steps=1, **changes):
    """A profile of steps in which these rows ran, as text."""
    rows = tuple(replace(one, ns={cell: steps * ns for cell, ns in one.ns.items()}) for one in rows)
    busy = sum(one.total_ns for one in rows)
    operations = (Operations("Conv2D", OTHER_PRODUCTS, busy, sum(one.kernels for one in rows)),)
    fields = {"source": "TensorFlow 2.21.0", "device_name": "", "devices": 1, "span_ns": 2 * busy}
    fields |= {"tensor_cores": on_device, "rows": rows, "operations": operations}
    return ProfileRecord(on_device=on_device, steps=steps, **fields | changes).as_text()


def usual_rows(half=False):
    """A convolution that gets four times as fast, a normalisation and an update that do not: 48 and 24 ms."""
    costs = {"flops": 20_000_000_000, "bytes": 40_000_000 if half else 80_000_000, "channels": (64, 64)}
    dtype = "float16" if half else "float32"
    conv = row("conv", 8 if half else 32, TENSOR_CORES if half else OTHER_PRODUCTS, BACKWARD, dtype=dtype, **costs)
    norm = {"type": "BatchNormalization", "dtype": dtype, "flops": 10_000_000, "bytes": 200_000_000}
    return [
        conv,
        row("norm", 10, NORMALISATION, cast_ns=2 * NS if half else 0, **norm),
        row("(optimizer)", 6, OPTIMIZER, UPDATE, type="", bytes=300_000_000, flops=1000),
    ]


def profiled_pair(model="vgg16", base_ms=50.0, half_ms=25.0, phase="training", rows=usual_rows, **changes):
    """A float32 and a mixed_float16 case with their profiles, and their rounds."""
    ratio = base_ms / half_ms
    interval = {"speedup": ratio, "speedup_low": 0.99 * ratio, "speedup_high": 1.01 * ratio, "baseline": "float32"}
    on_device = changes.get("device", "gpu") == "gpu"
    return [
        (
            record(model, phase=phase, step_profile=profile(*rows(), on_device=on_device), **changes),
            [base_ms / 1e3] * 12,
        ),
        (
            record(
                model,
                "mixed_float16",
                phase,
                step_profile=profile(*rows(half=True), on_device=on_device),
                **{**interval, **changes},
            ),
            [half_ms / 1e3] * 12,
        ),
    ]


def elementwise_rows(half=False):
    return [row("relu", 10 if half else 20, ELEMENTWISE, type="ReLU"), row("cast", 1, COPIES, type="Cast")]


def run_of(*diagnostics, cases=(), path="run.json", facts=None, time="2026-05-01T12:00:00+00:00", commit="a" * 40):
    """A SavedRun of diagnostics, and of pairs of a SpeedRecord and its rounds."""

    def fullname(r):
        name = "-".join(filter(None, [r.model, r.precision, r.mode, str(r.batch_size), "control" if r.control else ""]))
        return f"bench/test_{r.phase}.py::test[{name}]"

    saved = {fullname(r): Measured(r, tuple(rounds), fullname(r)) for r, rounds in cases}
    return SavedRun(
        Path(path),
        datetime.fromisoformat(time),
        commit,
        False,
        "main",
        {"node": "bench-1", "gpu": "NVIDIA V100", "driver": "580"} | (facts or {}),
        saved | {diagnostic_name(one.record): one for one in diagnostics},
    )


def _result(record, ms, **fields):
    fields = COMMON | fields
    made = record(**fields)
    return Measured(made, (ms / 1000,) * made.rounds, diagnostic_name(made))

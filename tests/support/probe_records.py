"""Records of cases that look for causes, of measurements that nobody made."""

from datetime import datetime
from pathlib import Path

from mpbench.records.diagnostics import (
    FeedRecord,
    InputRecord,
    LayerRecord,
    PartRecord,
    PeakRecord,
    Probed,
    ProfileRecord,
)
from mpbench.records.runs import SavedCase, SavedRun
from mpbench.why.reading.findings import matched

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
    "part": "bench/test_step_parts.py::test_step_part",
    "layer": "bench/test_layers.py::test_layer",
    "peak": "bench/test_layers.py::test_peak",
    "feed": "bench/test_input_pipeline.py::test_fed_step",
    "input": "bench/test_input_pipeline.py::test_pipeline",
    "profile": "bench/test_profile.py::test_profile",
}
"""Node ids without their parameters."""

TELLING = ("model", "phase", "precision", "part", "layer", "feed", "what", "cache")


def probe_name(record):
    """A node id that no two cases of one session share."""
    values = [str(getattr(record, name)) for name in TELLING if getattr(record, name, "")]
    return f"{PLACES[record.kind]}[{'-'.join(values)}]"


def part(name, ms, precision="float32", minimal_bytes=0.0, **changes):
    return _probed(PartRecord, ms, part=name, precision=precision, minimal_bytes=minimal_bytes, **changes)


def layer(name, ms, precision="float32", phase="training", **changes):
    """One distinct layer; by default a convolution, once in the model, that computes in the precision's own dtype."""
    dtype = "float32" if precision in ("float32", "tf32") else precision.removeprefix("mixed_")
    fields = {
        "layer": name,
        "layer_type": "Conv2D",
        "count": 1,
        "config": "64 filters 3x3",
        "input_shape": "64x224x224x3",
        "output_shape": "64x224x224x64",
        "compute_dtype": dtype,
        "parameters": 1792,
        "flops": 1e9,
        "minimal_bytes": 1e6,
        "kernels": 1,
        "cast_bytes": 0.0,
    }
    return _probed(LayerRecord, ms, precision=precision, phase=phase, **fields | changes)


def feed(which, ms, precision="float32", phase="training", **changes):
    fields = {"workers": 8, "cache": "none", "data": "dogs-vs-cats.zip"}
    return _probed(FeedRecord, ms, feed=which, precision=precision, phase=phase, **fields | changes)


def pipeline(ms, **changes):
    fields = {"workers": 8, "cache": "none", "data": "dogs-vs-cats.zip", "images": 1000}
    nothing = {"model": "", "precision": "", "phase": ""}
    return _probed(InputRecord, ms, **nothing | fields | changes)


def peak(what, ms, precision="float32", **changes):
    """A product of 1e9 FLOPs, a copy of 1e6 bytes, or one tiny operation."""
    fields = {"size": "big", "flops": 1e9 if what == "matmul" else 0.0, "bytes": 1e6 if what == "copy" else 0.0}
    nothing = {"model": "", "phase": "", "batch_size": 0, "image_size": 0}
    return _probed(PeakRecord, ms, what=what, precision=precision, **nothing | fields | changes)


def profile(classes, precision="float32", phase="training", ms=120.0, **changes):
    fields = {"source": "xprof 2.20", "on_device": True, "classes": classes, "tensor_core_share": None}
    return _probed(ProfileRecord, ms, precision=precision, phase=phase, **fields | changes)


def peaks(precisions=("float32", "mixed_float16"), **changes):
    """float32: 1 TFLOP/s; float16: 4 TFLOP/s; both 100 GB/s, 5 us for a tiny operation."""
    times = {"matmul": {"float32": 1.0}, "copy": {}, "latency": {}}
    usual = {"matmul": 0.25, "copy": 0.01, "latency": 0.005}
    return [
        peak(what, times[what].get(precision, usual[what]), precision, **changes)
        for precision in precisions
        for what in times
    ]


def run_of(*probes, cases=(), path="run.json", facts=None, time="2026-05-01T12:00:00+00:00", commit="a" * 40):
    """A SavedRun of probes, and of pairs of a CaseRecord and its rounds."""

    def fullname(record):
        return f"bench/test_{record.phase}.py::test[{record.model}-{record.precision}-{record.batch_size}]"

    saved = {fullname(r): SavedCase(fullname(r), r, tuple(rounds)) for r, rounds in cases}
    return SavedRun(
        Path(path),
        datetime.fromisoformat(time),
        commit,
        False,
        "main",
        {"node": "bench-1", "gpu": "NVIDIA V100", "driver": "580"} | (facts or {}),
        saved,
        {},
        {probe_name(one.record): one for one in probes},
    )


def found_in(*probes, cases=()):
    """The findings of the only model in them."""
    (found,), _ = matched([run_of(*probes, cases=cases)])
    return found


def _probed(record, ms, **fields):
    fields = COMMON | fields
    return Probed(record(**fields), (ms / 1000,) * fields["rounds"])

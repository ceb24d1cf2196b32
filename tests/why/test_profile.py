"""mpbench.why.measuring.profile: real profiles of tiny models on the CPU; for a GPU one written as its tracer does."""

import math
import re
import time

import pytest

from mpbench.config.precisions import PRECISIONS
from mpbench.errors import CaseFailure
from mpbench.records.plausible import check_probe
from mpbench.system.device import Device
from mpbench.why.measuring import profile
from mpbench.why.measuring.profile import Events, figures, profile_probe, read_events, take, unavailable
from mpbench.why.reading.kernels import COPIES, NORMALISATION, TENSOR_CORES, Span, operation_seconds

pytestmark = pytest.mark.tensorflow

needs_xprof = pytest.mark.skipif(unavailable() is not None, reason=str(unavailable()))
COMMON = {
    "model": "tiny_models:feature_map",
    "phase": "training",
    "device": "cpu",
    "device_name": "CPU",
    "profile": "quick",
    "batch_size": 4,
    "image_size": 32,
    "rounds": 5,
    "steps_per_round": 1,
    "unpaired_blocks": "",
    "noisy": False,
}


def spec(model, precision="mixed_float16", phase="training"):
    from mpbench.engine.plan import StepSpec

    return StepSpec(f"tiny_models:{model}", PRECISIONS[precision], phase, 4, 32, False, Device("cpu", "/CPU:0"))


def test_without_xprof_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr(profile.util, "find_spec", lambda name: None)
    with pytest.raises(CaseFailure, match=r"^no profiler: pip install mpbench\[profile\]$"):
        profile_probe(spec("classifier"), lambda line: None)


@needs_xprof
def test_a_real_profile_of_a_training_step(capfd):
    said = []
    probe = profile_probe(spec("feature_map"), said.append)
    probe.run(3)
    capfd.readouterr()
    probe.check()
    record = probe.record(**COMMON)
    probe.release()
    assert capfd.readouterr() == ("", "")
    assert said[-1] == "profiling"
    check_probe(record)
    seconds = record.seconds_by_class
    assert {"Conv2D", "MatMul", "Mul", "Cast"} <= set(seconds)
    assert list(seconds.values()) == sorted(seconds.values(), reverse=True)
    assert (record.on_device, record.tensor_core_share, record.precision) == (False, None, "mixed_float16")
    assert re.fullmatch(r"xprof \d+\.\d+.*", record.source)


@needs_xprof
def test_the_operations_take_no_longer_than_the_steps():
    from mpbench.engine.step import Step

    step = Step(spec("edges", "float32", "inference"))
    step.run(2)
    run, took = step.run, []

    def timed(steps):
        start = time.perf_counter()
        run(steps)
        took.append(time.perf_counter() - start)

    step.run = timed
    events = take(step)
    total = math.fsum(operation_seconds(events.threads, profile.PROFILED_STEPS).values())
    assert 0 < total * profile.PROFILED_STEPS < took[-1]
    step.release()


class SkippingStep:
    """Loss scaling skips a step in the first profiles."""

    def __init__(self, bad_profiles):
        self.profiles, self.bad_profiles = 0, bad_profiles

    def run(self, steps):
        self.profiles += 1

    def skipped_steps(self):
        return min(self.profiles, self.bad_profiles)


@needs_xprof
def test_a_profile_with_a_skipped_step_is_taken_again(monkeypatch):
    monkeypatch.setattr(profile, "read_events", lambda folder: "events")
    step = SkippingStep(profile.MAX_ATTEMPTS - 1)
    assert take(step) == "events"
    assert step.profiles == profile.MAX_ATTEMPTS
    with pytest.raises(CaseFailure, match="loss scaling skipped a step in each of 3 profiles"):
        take(SkippingStep(profile.MAX_ATTEMPTS))


KERNELS = [
    (
        "sm80_xmma_fprop_implicit_gemm_f16f16_f16f32_f32_nhwckrsc_nhwc_g1_tensor16x8x16_cudnn",
        "m/conv/Conv2D:Conv2D",
        300,
    ),
    ("nvjet_hsh_128x128_64x5_1x2_h_bz_coopA_NNT", "m/dense/MatMul:MatMul", 200),
    ("void Eigen::internal::EigenMetaKernel<>", "m/batch_normalization_1/moments/mean:Mean", 50),
    ("MemcpyD2D", "m/identity:Identity", 40),
    ("Memset", "", 10),
]


def write_gpu_profile(path, kernels):
    """A profile as CUPTI's events are written: streams with kernels and copies, and lines that repeat them."""
    pb = pytest.importorskip("tensorflow.tsl.profiler.protobuf.xplane_pb2")
    space = pb.XSpace()
    plane = space.planes.add(id=1, name="/device:GPU:0")
    plane.stat_metadata[1].id, plane.stat_metadata[1].name = 1, "tf_op"
    for line_id, name in ((7, "Stream #7(Compute,MemcpyD2D)"), (8, "TensorFlow Ops")):
        line, at_us = plane.lines.add(id=line_id, name=name, timestamp_ns=1000), 0
        for id, (kernel, op, us) in enumerate(kernels, 1):
            plane.event_metadata[id].id, plane.event_metadata[id].name = id, kernel
            event = line.events.add(metadata_id=id, offset_ps=at_us * 10**6, duration_ps=us * 10**6)
            if op:
                event.stats.add(metadata_id=1, str_value=op)
            at_us += us + 5
    path.write_bytes(space.SerializeToString())


@needs_xprof
def test_a_gpus_profile(tmp_path):
    write_gpu_profile(tmp_path / "vm.xplane.pb", KERNELS)
    found = figures(read_events(tmp_path), 2, True, True)
    assert found == {
        "on_device": True,
        "classes": f"{TENSOR_CORES}=0.00025; {NORMALISATION}=2.5e-05; {COPIES}=2.5e-05",
        "tensor_core_share": pytest.approx(5 / 6),
    }
    assert figures(read_events(tmp_path), 2, True, False)["tensor_core_share"] is None


@needs_xprof
def test_a_gpus_profile_without_kernels_is_no_figure(tmp_path):
    write_gpu_profile(tmp_path / "vm.xplane.pb", [])
    with pytest.raises(CaseFailure, match="the profile holds no kernel: CUPTI"):
        figures(read_events(tmp_path), 2, True, True)


def test_a_profile_without_operations_is_no_figure():
    with pytest.raises(CaseFailure, match="the profile holds no operation"):
        figures(Events(threads=[[Span("python", 0, 5)]]), 2, False, False)


def test_no_profile_at_all(tmp_path):
    with pytest.raises(CaseFailure, match="has written no profile"):
        read_events(tmp_path)


@needs_xprof
def test_a_profile_that_cannot_be_read_is_one_line(tmp_path):
    (tmp_path / "vm.xplane.pb").write_bytes(b"\xff" * 50)
    with pytest.raises(CaseFailure, match=r"^xprof cannot read the profile: [^\n]*$"):
        read_events(tmp_path)

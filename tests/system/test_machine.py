"""mpbench.engine.device: the machine's facts with and without an NVIDIA driver, and the TF32 guard."""

import os
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
from fake_nvml import fail, install, stand_in

from mpbench.engine import device as devices
from mpbench.errors import CaseFailure
from mpbench.system import machine, nvidia
from mpbench.system.device import Device
from mpbench.system.machine import machine_facts

GPU = Device("gpu", "/GPU:0")
CPU = Device("cpu", "/CPU:0")


@pytest.fixture
def nvml(monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return partial(install, monkeypatch)


def test_facts_of_a_gpu(nvml):
    nvml()
    facts = machine_facts()
    assert facts == machine_facts()
    assert facts["gpu"] == "NVIDIA Test at index 0"
    assert (facts["compute_capability"], facts["tf32_available"]) == ("9.0", True)
    assert (facts["driver"], facts["cuda_driver"], facts["gpu_memory_bytes"]) == ("550.54", "12.4", 2**37)
    assert facts["tensorflow"]
    assert facts["keras"]


@pytest.mark.parametrize(
    ("visible", "handle"), [("1", "index 1"), ("1,0", "index 1"), ("GPU-5a", "uuid GPU-5a"), ("MIG-7", "uuid MIG-7")]
)
def test_the_first_visible_gpu_is_the_one(nvml, monkeypatch, visible, handle):
    nvml()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert machine_facts()["gpu"] == f"NVIDIA Test at {handle}"


@pytest.mark.parametrize(
    ("visible", "uuid"),
    [(None, "GPU-of-index 0"), ("1,0", "GPU-of-index 1"), ("MIG-7", "GPU-of-uuid MIG-7"), ("", None)],
)
def test_the_uuid_is_that_of_the_first_visible_gpu(nvml, monkeypatch, visible, uuid):
    nvml()
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert nvidia.gpu_uuids() == ([uuid] if uuid else [])


@pytest.mark.parametrize(
    ("visible", "count", "handles"),
    [
        (None, 2, ["index 0", "index 1"]),
        (None, 3, ["index 0", "index 1"]),
        ("1,0", 2, ["index 1", "index 0"]),
        ("GPU-5a, 1", 2, ["uuid GPU-5a", "index 1"]),
        ("0,-1,1", 3, ["index 0"]),
        ("1", 2, ["index 1"]),
    ],
)
def test_the_visible_gpus_come_in_their_order(monkeypatch, visible, count, handles):
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    else:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert nvidia.visible_gpus(stand_in(), count) == handles


@pytest.mark.parametrize("function", ["nvmlInit", "nvmlDeviceGetHandleByIndex", "nvmlDeviceGetUUID"])
def test_without_a_gpu_or_driver_there_is_no_uuid(nvml, function):
    nvml(**{function: fail})
    assert nvidia.gpu_uuids() == []


@pytest.mark.parametrize("hidden", ["", "-1"])
def test_a_hidden_gpu_is_none(nvml, monkeypatch, hidden):
    nvml()
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
    assert machine_facts()["gpu"] is None


def test_before_ampere_there_is_no_tf32(nvml):
    nvml(nvmlDeviceGetCudaComputeCapability=lambda handle: (7, 0))
    assert machine_facts()["tf32_available"] is False


@pytest.mark.parametrize("function", ["nvmlInit", "nvmlDeviceGetCount", "nvmlDeviceGetHandleByIndex"])
def test_without_a_gpu_or_driver_its_facts_are_absent(nvml, function):
    nvml(**{function: fail})
    facts = machine_facts()
    assert facts["gpu"] is None
    assert facts["driver"] is None
    assert facts["tensorflow"]


def test_a_cpu_has_no_tf32():
    assert not devices.tf32_available(CPU)


def test_facts_need_no_tensorflow():
    code = "import sys, mpbench.system.machine as m; m.machine_facts(); sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_float32_and_tf32_without_xla_are_refused_in_one_process(monkeypatch):
    monkeypatch.setattr(devices, "_tf32_without_xla", set())
    devices.check_tf32_is_apart(False, "float32", GPU, jit=False)
    devices.check_tf32_is_apart(False, "float32", GPU, jit=False)
    devices.check_tf32_is_apart(True, "float32", GPU, jit=True)
    devices.check_tf32_is_apart(True, "float32", CPU, jit=False)
    devices.check_tf32_is_apart(True, "mixed_float16", GPU, jit=False)
    with pytest.raises(CaseFailure, match="float32 and tf32 cannot be told apart in one process without XLA"):
        devices.check_tf32_is_apart(True, "float32", GPU, jit=False)


@pytest.mark.skipif(not Path("/proc/stat").exists(), reason="others' CPU time is known on Linux only")
def test_cpu_time_of_another_process_counts_and_our_own_does_not():
    before = machine.others_cpu_seconds()
    code = "import time\nwhile time.process_time() < 2: pass\nprint(flush=True)\ntime.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as other:
        other.stdout.readline()
        assert machine.others_cpu_seconds() - before > 1.5
        other.kill()
    before, began, own = machine.others_cpu_seconds(), time.monotonic(), time.process_time()
    while time.process_time() - own < 1:
        pass
    # Others may have kept all cores busy meanwhile, but for the second that was ours.
    capacity = (time.monotonic() - began) * os.cpu_count()
    assert machine.others_cpu_seconds() - before < capacity - 1 + 0.5


def test_where_nothing_says_what_others_do_it_is_unknown(monkeypatch):
    monkeypatch.setattr(devices.Path, "read_text", lambda self, *args: "cpu what")
    assert machine.others_cpu_seconds() is None


@pytest.fixture
def fresh():
    for asked in (machine._cpu_affinity, machine._cpu_quota):
        asked.cache_clear()
    yield
    for asked in (machine._cpu_affinity, machine._cpu_quota):
        asked.cache_clear()


@pytest.mark.parametrize(
    ("cpus", "text"),
    [({3}, "3"), ({0, 1, 2, 3, 8}, "0-3,8"), ({0, 2, 4}, "0,2,4"), (set(range(16)), None)],
)
def test_the_cpus_that_may_be_used_are_facts(fresh, monkeypatch, cpus, text):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: cpus, raising=False)
    monkeypatch.setattr(os, "sysconf", lambda name: 16)
    assert machine_facts()["cpu_affinity"] == text


@pytest.mark.parametrize(
    ("own", "above", "text"),
    [("max 100000", "max 100000", None), ("150000 100000", "max 100000", "1.5"), ("max 100000", "400000 100000", "4")],
)
def test_the_cpu_time_that_a_container_leaves_is_a_fact(fresh, monkeypatch, tmp_path, own, above, text):
    (tmp_path / "slice" / "pod").mkdir(parents=True)
    (tmp_path / "slice" / "cpu.max").write_text(f"{above}\n")
    (tmp_path / "slice" / "pod" / "cpu.max").write_text(f"{own}\n")
    read = Path.read_text
    groups = "4:memory:/x\n0::/slice/pod\n"
    monkeypatch.setattr(
        Path, "read_text", lambda self, *a, **k: groups if str(self) == "/proc/self/cgroup" else read(self, *a, **k)
    )
    monkeypatch.setattr(machine, "CGROUPS", tmp_path)
    assert machine_facts()["cpu_quota"] == text


def test_variables_of_threads_and_of_onednn_are_facts(monkeypatch):
    for name in list(os.environ):
        if machine.THREADS.fullmatch(name) or machine.ONEDNN.fullmatch(name):
            monkeypatch.delenv(name)
    assert (machine_facts()["threads"], machine_facts()["onednn"]) == (None, None)
    for name in ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS", "KMP_AFFINITY"):
        monkeypatch.setenv(name, "4")
    for name in ("TF_ENABLE_ONEDNN_OPTS", "ONEDNN_MAX_CPU_ISA", "DNNL_DEFAULT_FPMATH_MODE", "ONEDNN_VERBOSE"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "3")
    facts = machine_facts()
    assert facts["threads"] == "KMP_AFFINITY=4 OMP_NUM_THREADS=4 TF_NUM_INTEROP_THREADS=4 TF_NUM_INTRAOP_THREADS=4"
    assert facts["onednn"] == "DNNL_DEFAULT_FPMATH_MODE=1 ONEDNN_MAX_CPU_ISA=1 TF_ENABLE_ONEDNN_OPTS=1"

"""A real run while another process computes on the GPU, as a stand-in for NVML says: it is named and recorded."""

import json
import os

import pytest
from child_runs import BARE
from paths import ROOT

from mpbench.system.lock import HELD

pytestmark = pytest.mark.tensorflow

FAKE_NVML = """
import os, types
class NVMLError(Exception): pass
def nvmlInit(): pass
def nvmlShutdown(): pass
def nvmlDeviceGetCount(): return 1
def nvmlDeviceGetHandleByIndex(index): return index
def nvmlDeviceGetUUID(handle): return "GPU-pretended"
def nvmlDeviceGetCudaComputeCapability(handle): raise NVMLError
def nvmlSystemGetProcessName(pid): return "other-training"
def nvmlDeviceGetComputeRunningProcesses(handle):
    return [types.SimpleNamespace(pid=1, usedGpuMemory=2**30), types.SimpleNamespace(pid=os.getpid(), usedGpuMemory=1)]
"""


def test_a_run_beside_another_process(pytester, monkeypatch):
    """The driver sees a GPU and someone on it; TensorFlow does not, so the cases run on the CPU."""
    for name in ("conftest.py", "bench/test_inference.py", "tests/support/tiny_models.py"):
        target = pytester.path / name.replace("tests/support/", "")
        target.parent.mkdir(exist_ok=True)
        target.write_text((ROOT / name).read_text())
    (pytester.path / "pynvml.py").write_text(FAKE_NVML)
    monkeypatch.setenv("PYTHONPATH", f"{pytester.path}{os.pathsep}{ROOT}")
    monkeypatch.setenv("PYTEST_ADDOPTS", BARE)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    monkeypatch.delenv(HELD, raising=False)  # a session that tests may hold this machine's itself
    monkeypatch.setenv("TMPDIR", str(pytester.path))
    result = pytester.runpytest_subprocess(
        "bench", "--mp-image-size=16", "--mp-max-time=0.5", "--mp-models=tiny_models:classifier", "--benchmark-autosave"
    )
    result.assert_outcomes(passed=2)
    result.stdout.fnmatch_lines(
        [
            "* s] also computing on this GPU: other-training (pid 1, 1024 MiB): their work disturbs this run's figures",
            "* s] loading TensorFlow",
            "NOT ALONE: also computing on this GPU: other-training (pid 1, 1024 MiB): *",
        ]
    )
    (path,) = (pytester.path / ".benchmarks").rglob("*.json")
    saved = json.loads(path.read_text())
    assert saved["mpbench"]["command"].startswith("pytest ")
    others = saved["mpbench"]["other_gpu_processes"]
    assert others == [{"pid": 1, "name": "other-training", "memory_bytes": 2**30}]
    assert "other-training" not in json.dumps(saved["machine_info"])
    locks = {path.name for path in (pytester.path / "mpbench-locks").iterdir()}
    assert locks == {"GPU-pretended.lock", "this_machine.lock"}

"""mpbench.system.neighbours: who else computes, asked of a stand-in for NVML, and the load of a CPU."""

import json
import os
import subprocess
import sys
import types
from pathlib import Path

import pytest
from fake_nvml import fail, install

from mpbench.system import neighbours
from mpbench.system.neighbours import Neighbours

MIB = 2**20


def process(pid, memory=512 * MIB):
    return types.SimpleNamespace(pid=pid, usedGpuMemory=memory)


@pytest.fixture
def gpu(monkeypatch):
    """Sets which processes NVML sees on the GPU."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    names = {101: "/usr/bin/python3", 102: "game\n"}

    def use(*processes, **changes):
        def name(pid):
            return names[pid] if pid in names else fail()

        functions = {
            "nvmlDeviceGetComputeRunningProcesses": lambda handle: list(processes),
            "nvmlSystemGetProcessName": name,
        }
        install(monkeypatch, **functions | changes)

    # No process of these numbers may be an accidental child of this one.
    monkeypatch.setattr(neighbours, "_is_ours", lambda pid: pid in (os.getpid(), 7))
    return use


def test_others_are_named_and_recorded(gpu):
    gpu(process(101), process(102, None), process(os.getpid()), process(7))
    found = Neighbours()
    assert found.look("auto") == (
        "also computing on this GPU: /usr/bin/python3 (pid 101, 512 MiB), game? (pid 102): "
        "their work disturbs this run's figures"
    )
    gpu(process(os.getpid()), process(102, 5 * MIB))
    assert found.look_again() == (
        "NOT ALONE: also computing on this GPU: /usr/bin/python3 (pid 101, 512 MiB), game? (pid 102, 5 MiB): "
        "their work may have disturbed this run's figures"
    )
    assert found.as_json() == {
        "other_gpu_processes": [
            {"pid": 101, "name": "/usr/bin/python3", "memory_bytes": 512 * MIB},
            {"pid": 102, "name": "game?", "memory_bytes": 5 * MIB},
        ]
    }
    json.dumps(found.as_json())


def test_one_who_comes_later_is_named_at_the_end(gpu):
    gpu()
    found = Neighbours()
    assert found.look("gpu") is None
    gpu(process(os.getpid()), process(7))
    assert found.look_again() is None
    assert found.as_json() == {"other_gpu_processes": []}
    gpu(process(os.getpid()), process(101))
    assert found.look_again().startswith("NOT ALONE: also computing on this GPU: /usr/bin/python3 (pid 101, 512 MiB)")


def test_where_process_ids_are_a_hosts_this_process_is_not_named_as_another(gpu):
    gpu(process(101))
    found = Neighbours()
    assert found.look("gpu")
    gpu(process(101), process(102))  # 102 may well be this one, as the host sees it
    found.look_again()
    assert [other["pid"] for other in found.as_json()["other_gpu_processes"]] == [101]


@pytest.mark.parametrize("function", ["nvmlInit", "nvmlDeviceGetHandleByIndex", "nvmlDeviceGetComputeRunningProcesses"])
def test_where_nvml_cannot_say_nothing_is_recorded(gpu, monkeypatch, function):
    monkeypatch.setattr(os, "getloadavg", lambda: (0.0, 0.0, 0.0))
    gpu(process(101), **{function: fail})
    found = Neighbours()
    assert (found.look("auto"), found.look_again(), found.as_json()) == (None, None, {})


def test_a_name_that_nvml_does_not_know_is_the_systems(gpu):
    parent = os.getppid()
    gpu(process(parent), process(2**22 + 5))
    found = Neighbours()
    assert "a process (pid 4194309, " in found.look("gpu")
    first, second = found.as_json()["other_gpu_processes"]
    assert first["name"] == Path(f"/proc/{parent}/comm").read_text().strip()
    assert second["name"] is None


def test_children_are_ours_and_parents_are_not():
    inner = "import os; print(os.getpid(), flush=True); input()"
    code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {inner!r}])"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        grandchild = int(child.stdout.readline())
        assert neighbours._is_ours(grandchild)
        assert neighbours._is_ours(child.pid)
        child.communicate("\n")
    assert neighbours._is_ours(os.getpid())
    assert not neighbours._is_ours(os.getppid())
    assert not neighbours._is_ours(2**22 + 5)


def test_a_busy_cpu_is_shown_and_recorded(gpu, monkeypatch):
    gpu(process(101))
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    for load, line in (
        (2.0, None),
        (3.14159, "the machine is busy: load average 3.1 over the last minute on 4 cores: "),
    ):
        monkeypatch.setattr(os, "getloadavg", lambda load=load: (load, 0.0, 0.0))
        found = Neighbours()
        seen = found.look("cpu")
        assert seen.startswith(line) if line else seen is None
        assert found.as_json() == ({"load_average_1min": 3.14} if line else {})
        assert found.look_again() is None

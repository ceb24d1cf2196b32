"""What the machine is, and what it has left: facts, memory, who uses the CPU. No TensorFlow.

pytest-benchmark asks for the facts before a case has run, and comparing two runs must not find them different because
one of the answers came before an import.
"""

from __future__ import annotations

import functools
import os
import re
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any

from mpbench.system.nvidia import gpu_facts

JITTERING_CPU_FIELDS = ("hz_actual", "hz_actual_friendly", "hz_advertised", "hz_advertised_friendly")
"""py-cpuinfo reads them from the current clock on some machines: they differ from run to run."""


THREADS = re.compile(
    r"(OMP|MKL|KMP)_\w+|GOMP_CPU_AFFINITY|TF_NUM_INT(ER|RA)OP_THREADS|TF_GPU_THREAD_(MODE|COUNT)|OPENBLAS_NUM_THREADS"
)
"""Environment variables that say how many threads compute, and where."""

ONEDNN = re.compile(r"(TF_)?(ONEDNN|DNNL)_(?!VERBOSE|JIT_DUMP|JIT_PROFILE)\w+|TF_ENABLE_ONEDNN_OPTS|TF_\w*MKL\w*")
"""Environment variables that say how oneDNN computes."""

CGROUPS = Path("/sys/fs/cgroup")


def room_bytes() -> int | None:
    """Resident memory that this process could reach before the system, or its container, runs out; None if unknown."""
    free = free_memory_bytes()
    try:
        return None if free is None else status_bytes("/proc/self/status", "VmRSS:") + free
    except (OSError, ValueError, StopIteration):
        return None


def free_memory_bytes() -> int | None:
    """Memory that can be had without swapping, within the limit of a container; None where nothing says (no Linux)."""
    try:
        free = status_bytes("/proc/meminfo", "MemAvailable:")
    except (OSError, ValueError, StopIteration):
        return None
    with suppress(OSError, ValueError):  # cgroup version 2; no limit reads "max"
        most, used = (int((CGROUPS / f"memory.{what}").read_text()) for what in ("max", "current"))
        free = min(free, most - used)
    return max(free, 0)


def status_bytes(file: str, name: str) -> int:
    """A line's number of KiB in one of Linux's status files, in bytes."""
    line = next(line for line in Path(file).read_text().splitlines() if line.startswith(name))
    return int(line.split()[1]) * 1024


def usable_cores() -> int:
    """How many CPUs this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def others_cpu_seconds() -> float | None:
    """CPU time since the system began that went to other processes or, on a virtual machine, to other machines.

    Linux only; None elsewhere. In a container it is that of the whole host.
    """
    try:
        fields = Path("/proc/stat").read_text().split("\n", 1)[0].split()
        user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, fields[1:9])
    except (OSError, ValueError):
        return None
    everybody = (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")
    times = os.times()
    return everybody - (times.user + times.system + times.children_user + times.children_system)


def machine_facts() -> dict[str, Any]:
    """What must be the same for two runs to be comparable; nothing in it changes from run to run.

    Returns:
        Versions of TensorFlow, Keras, numpy and, where they are Python packages, of CUDA's runtime and cuDNN; for the
        first visible GPU its name, compute capability, memory in bytes, whether it knows TF32, its driver and the CUDA
        version that the driver goes up to. Which CPUs this process may use, such as `0-3,8`, and how many of them
        its containers leave it; variables that steer threads and oneDNN, such as `OMP_NUM_THREADS=4`. None where there
        is none, where nothing is restricted or set, or where nothing can say.
    """
    return {
        "tensorflow": version_of("tensorflow"),
        "keras": version_of("keras"),
        "numpy": version_of("numpy"),
        "cuda": _version_by_prefix("nvidia-cuda-runtime-cu"),
        "cudnn": _version_by_prefix("nvidia-cudnn-cu"),
        **gpu_facts(),
        "cpu_affinity": _cpu_affinity(),
        "cpu_quota": _cpu_quota(),
        "threads": _variables(THREADS),
        "onednn": _variables(ONEDNN),
    }


@functools.cache
def _cpu_affinity() -> str | None:
    """The CPUs that this process may use; None where these are all. Asked once: OpenMP may bind threads later."""
    try:
        cpus = sorted(os.sched_getaffinity(0))
        if len(cpus) >= os.sysconf("SC_NPROCESSORS_ONLN"):
            return None
    except (AttributeError, OSError, ValueError):  # no Linux
        return None
    starts = [cpu for cpu in cpus if cpu - 1 not in cpus]
    ends = [cpu for cpu in cpus if cpu + 1 not in cpus]
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in zip(starts, ends, strict=True))


@functools.cache
def _cpu_quota() -> str | None:
    """How many CPUs' time this process's control groups (version 2) leave it; None where they leave it all."""
    quotas = []
    with suppress(OSError, StopIteration):
        lines = Path("/proc/self/cgroup").read_text().splitlines()
        own = Path(next(line for line in lines if line.startswith("0::")).removeprefix("0::"))
        for group in (own, *own.parents):
            with suppress(OSError, ValueError):  # a group without this controller; no limit reads "max"
                quota, period = (CGROUPS / str(group).lstrip("/") / "cpu.max").read_text().split()
                quotas.append(int(quota) / int(period))
    return f"{min(quotas):g}" if quotas else None


def _variables(names: re.Pattern[str]) -> str | None:
    found = [f"{name}={value}" for name, value in sorted(os.environ.items()) if names.fullmatch(name)]
    return " ".join(found) or None


def version_of(package: str) -> str | None:
    """Of an installed package; None where it is not installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _version_by_prefix(prefix: str) -> str | None:
    for distribution in metadata.distributions():
        name = (distribution.metadata["Name"] or "").lower()
        if name.startswith(prefix):
            return distribution.version
    return None

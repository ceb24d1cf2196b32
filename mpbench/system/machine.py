"""What the machine is, and what it has left: facts, memory, who uses the CPU. No TensorFlow.

pytest-benchmark asks for the facts before a case has run, and comparing two runs must not find them different because
one of the answers came before an import.
"""

from __future__ import annotations

import os
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any

from mpbench.system.nvidia import gpu_facts

JITTERING_CPU_FIELDS = ("hz_actual", "hz_actual_friendly", "hz_advertised", "hz_advertised_friendly")
"""py-cpuinfo reads them from the current clock on some machines: they differ from run to run."""


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
        group = Path("/sys/fs/cgroup")
        free = min(free, int((group / "memory.max").read_text()) - int((group / "memory.current").read_text()))
    return max(free, 0)


def status_bytes(file: str, name: str) -> int:
    """A line's number of KiB in one of Linux's status files, in bytes."""
    line = next(line for line in Path(file).read_text().splitlines() if line.startswith(name))
    return int(line.split()[1]) * 1024


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
        version that the driver goes up to. None where there is none, or nothing that can say.
    """
    return {
        "tensorflow": _version("tensorflow"),
        "keras": _version("keras"),
        "numpy": _version("numpy"),
        "cuda": _version_by_prefix("nvidia-cuda-runtime-cu"),
        "cudnn": _version_by_prefix("nvidia-cudnn-cu"),
        **gpu_facts(),
    }


def _version(package: str) -> str | None:
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

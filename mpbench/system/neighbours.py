"""What else keeps the machine busy while the cases run: other processes that compute on the GPU, the load of a CPU.

Asked of NVML and the operating system; what cannot be found out is left out. Knows nothing of TensorFlow.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from mpbench.errors import printable
from mpbench.system import nvidia

BUSY_SHARE = 0.5
"""Of the cores: a load above it leaves too few that are idle for a step's own threads."""

MIB = 2**20


class Neighbours:
    """Others on the first visible GPU, or on the machine's CPU, over one session."""

    def __init__(self) -> None:
        self._seen: dict[int, dict[str, Any]] | None = None
        self._load: float | None = None

    def look(self, device: str) -> str | None:
        """Look before TensorFlow is loaded: a line that says who disturbs, or None.

        Args:
            device: one of `device.DEVICES`, as asked for.
        """
        if device != "cpu" and (found := _computing()) is not None:
            self._seen = {process["pid"]: process for process in found if not _is_ours(process["pid"])}
            return f"{self._names()}: their work disturbs this run's figures" if self._seen else None
        cores, load = os.cpu_count() or 1, 0.0
        with suppress(OSError):  # nothing says
            load = os.getloadavg()[0]
        if load <= BUSY_SHARE * cores:
            return None
        self._load = round(load, 2)
        return (
            f"the machine is busy: load average {load:.1f} over the last minute on {cores} cores: "
            "if that goes on, figures will be noisy"
        )

    def look_again(self) -> str | None:
        """Look once more, when all is measured: a line that names who was seen then or now, or None."""
        if self._seen is not None:
            found = _computing() or []
            # Where process ids are not ours (in a container), we do not know ourselves among those who are new.
            known = any(process["pid"] == os.getpid() for process in found)
            for process in found:
                if process["pid"] in self._seen or (known and not _is_ours(process["pid"])):
                    self._seen[process["pid"]] = process
        return f"NOT ALONE: {self._names()}: their work may have disturbed this run's figures" if self._seen else None

    def as_json(self) -> dict[str, Any]:
        """What is saved with the run: `other_gpu_processes` where NVML has answered, `load_average_1min` where high."""
        found: dict[str, Any] = {}
        if self._seen is not None:
            found["other_gpu_processes"] = list(self._seen.values())
        if self._load is not None:
            found["load_average_1min"] = self._load
        return found

    def _names(self) -> str:
        return "also computing on this GPU: " + ", ".join(
            f"{process['name'] or 'a process'} (pid {process['pid']}"
            + (f", {process['memory_bytes'] / MIB:.0f} MiB)" if process["memory_bytes"] is not None else ")")
            for process in (self._seen or {}).values()
        )


def _computing() -> list[dict[str, Any]] | None:
    """Processes that compute on the first visible GPU, this one among them; None where NVML cannot say."""
    with nvidia.nvml() as (nvml, gpu):
        if gpu is None:
            return None
        try:
            found = nvml.nvmlDeviceGetComputeRunningProcesses(gpu)
        except Exception:  # NVMLError, or what its bindings make of a driver that is too old for them
            return None
        return [
            {"pid": int(process.pid), "name": _name(nvml, int(process.pid)), "memory_bytes": process.usedGpuMemory}
            for process in found
        ]


def _name(nvml: Any, pid: int) -> str | None:
    name = ""
    with suppress(nvml.NVMLError, UnicodeDecodeError):
        name = nvml.nvmlSystemGetProcessName(pid)
    if not name:
        with suppress(OSError):
            name = Path(f"/proc/{pid}/comm").read_text(errors="replace").strip()
    return printable(name) or None


def _is_ours(pid: int) -> bool:
    """Whether it is this process or one that it has started."""
    while pid > 1 and pid != os.getpid():
        try:
            # "pid (name) state parent ...": the name may hold anything, parentheses too.
            pid = int(Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[1])
        except (OSError, ValueError, IndexError):
            return False
    return pid == os.getpid()

"""The device's memory: what is in use, free, at its peak; and what is said where it runs out."""

from __future__ import annotations

import re
import resource
import sys
from contextlib import suppress
from pathlib import Path

import tensorflow as tf

from mpbench.engine.tracing import without_locals
from mpbench.errors import CaseFailure
from mpbench.system import machine, nvidia
from mpbench.system.device import Device

GIB = 2**30


def in_use_bytes(device: Device) -> int:
    """Now: of TensorFlow's allocator on a GPU, of the process on a CPU (resident; 0 where unknown)."""
    if device.kind == "gpu":
        return int(tf.config.experimental.get_memory_info("GPU:0")["current"])
    return _of_process("VmRSS:") or 0


def free_bytes(device: Device) -> int | None:
    """That could still be used; None if unknown."""
    if device.kind == "cpu":
        return machine.free_memory_bytes()
    total = nvidia.gpu_facts().get("gpu_memory_bytes")
    return None if total is None else int(total) - in_use_bytes(device)


def reset_peak(device: Device) -> int:
    """Start a new peak; returns the bytes of TensorFlow's allocator in use now, 0 on a CPU."""
    if device.kind == "gpu":
        tf.config.experimental.reset_memory_stats("GPU:0")
        return in_use_bytes(device)
    with suppress(OSError):
        # Linux: 5 resets the high-water mark of the resident set (man 5 proc).
        Path("/proc/self/clear_refs").write_text("5")
    return 0


def peak_bytes(device: Device) -> int:
    """Peak since `reset_peak`: TensorFlow's allocator on a GPU, the whole process's resident set on a CPU.

    Where the system cannot reset the resident set's peak it is the peak since the process began.
    """
    if device.kind == "gpu":
        return int(tf.config.experimental.get_memory_info("GPU:0")["peak"])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return _of_process("VmHWM:") or (peak if sys.platform == "darwin" else peak * 1024)


def _of_process(line: str) -> int | None:
    try:
        return machine.status_bytes("/proc/self/status", line)
    except (OSError, ValueError, StopIteration):  # no Linux
        return None


class OutOfMemory(CaseFailure):
    """The device, or the host, had no memory left for a step."""


def is_out_of_memory(error: BaseException | None) -> bool:
    """Whether the device, or the host, had no memory left."""
    if isinstance(error, (tf.errors.ResourceExhaustedError, MemoryError)):
        return True
    # CUDA's libraries report a failed allocation of their own as an internal error.
    return isinstance(error, (tf.errors.InternalError, tf.errors.UnknownError)) and "ALLOC_FAILED" in str(error)


def explained(error: Exception, device: Device, size: str) -> Exception:
    """An OutOfMemory in place of an error whose reason is known; without the locals that hold its tensors.

    Args:
        size: of what was attempted, for people, such as `batch 64, 224 px, training`.
    """
    without_locals(error)
    if not is_out_of_memory(error):
        return error
    wanted = re.search(r"shape ?\[[\d,]*\][^ ]*(?: and type \w+)?", str(error))
    what = "allocator" if device.kind == "gpu" else "process"
    return OutOfMemory(
        f"out of memory on the {device.kind} at {size}"
        f"{f', allocating a tensor of {wanted[0]}' if wanted else ''} "
        f"(peak of the {what} so far {peak_bytes(device) / GIB:.1f} GiB); "
        "the batch is never shrunk: set --mp-batch-size, or let its factory give a smaller one"
    )

"""NVIDIA's GPUs as the driver knows them (NVML): facts, handles, the visible ones. No TensorFlow."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

AMPERE = (8, 0)
"""First compute capability with TF32."""


def gpu_uuids(count: int = 1) -> list[str]:
    """UUIDs of the first visible GPUs, or of their parts (MIG): of as many as there are and as can be asked."""
    with nvml() as (pynvml, _):
        if pynvml is not None:
            with suppress(pynvml.NVMLError):
                return [pynvml.nvmlDeviceGetUUID(gpu) for gpu in visible_gpus(pynvml, count)]
    return []


@contextmanager
def nvml() -> Iterator[tuple[Any, Any]]:
    """The NVML module and its handle of the first visible GPU; None for what there is not."""
    try:
        import pynvml

        pynvml.nvmlInit()
    except Exception:  # no library, no driver, no GPU: all the same here
        yield None, None
        return
    try:
        yield pynvml, next(iter(visible_gpus(pynvml)), None)
    finally:
        with suppress(pynvml.NVMLError):
            pynvml.nvmlShutdown()


def computes_in_tf32() -> bool:
    """Whether the first visible GPU computes float32 in TF32 unless told not to: Ampere and newer."""
    if os.environ.get("NVIDIA_TF32_OVERRIDE") == "0":
        return False
    return bool(gpu_facts()["tf32_available"])


def gpu_facts() -> dict[str, Any]:
    facts: dict[str, Any] = dict.fromkeys(
        ("gpu", "gpu_count", "gpu_memory_bytes", "compute_capability", "tf32_available", "driver", "cuda_driver")
    )
    with nvml() as (pynvml, gpu):
        if pynvml is None:
            return facts
        with suppress(pynvml.NVMLError):
            facts["gpu_count"] = pynvml.nvmlDeviceGetCount()
            if gpu is None:
                return facts
            capability = tuple(pynvml.nvmlDeviceGetCudaComputeCapability(gpu))
            cuda = pynvml.nvmlSystemGetCudaDriverVersion()
            facts.update(
                gpu=pynvml.nvmlDeviceGetName(gpu),
                gpu_memory_bytes=int(pynvml.nvmlDeviceGetMemoryInfo(gpu).total),
                compute_capability=".".join(map(str, capability)),
                tf32_available=capability >= AMPERE,
                driver=pynvml.nvmlSystemGetDriverVersion(),
                cuda_driver=f"{cuda // 1000}.{cuda % 1000 // 10}",
            )
    return facts


def visible_gpus(pynvml: Any, count: int = 1) -> list[Any]:
    """NVML's handles of the first of the GPUs that the cases see, or of as many as there are.

    NVML counts all GPUs of the machine, TensorFlow only those that CUDA_VISIBLE_DEVICES leaves it, up to the first name
    there that is none.
    """
    names = os.environ.get("CUDA_VISIBLE_DEVICES")
    handles: list[Any] = []
    for name in map(str, range(count)) if names is None else names.split(",")[:count]:
        try:
            handle = _gpu_named(pynvml, name.strip())
        except pynvml.NVMLError:
            break
        if handle is None:
            break
        handles.append(handle)
    return handles


def _gpu_named(pynvml: Any, name: str) -> Any:
    """The handle of one entry of CUDA_VISIBLE_DEVICES, None where it names no GPU; may raise NVMLError."""
    if name.startswith(("GPU-", "MIG-")):
        with suppress(pynvml.NVMLError):
            return pynvml.nvmlDeviceGetHandleByUUID(name)
        # CUDA also takes the beginning of a UUID.
        gpus = (pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(pynvml.nvmlDeviceGetCount()))
        return next((gpu for gpu in gpus if pynvml.nvmlDeviceGetUUID(gpu).startswith(name)), None)
    return pynvml.nvmlDeviceGetHandleByIndex(int(name)) if name.isdigit() else None

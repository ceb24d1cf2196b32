"""A stand-in for the NVML module: two GPUs at rest, any of its functions to be replaced, removed or made to fail."""

import sys
import types


class NVMLError(Exception):
    pass


def fail(*args):
    raise NVMLError


def stand_in(without=(), **changes):
    """An NVML module with some of its functions replaced, or without them as an older binding would be."""
    functions = {
        "nvmlInit": lambda: None,
        "nvmlShutdown": lambda: None,
        "nvmlDeviceGetCount": lambda: 2,
        "nvmlDeviceGetHandleByIndex": gpu_at,
        "nvmlDeviceGetHandleByUUID": lambda uuid: f"uuid {uuid}",
        "nvmlDeviceGetCudaComputeCapability": lambda handle: (9, 0),
        "nvmlDeviceGetUUID": lambda handle: f"GPU-of-{handle}",
        "nvmlDeviceGetName": lambda handle: f"NVIDIA Test at {handle}",
        "nvmlDeviceGetMemoryInfo": lambda handle: types.SimpleNamespace(total=2**37),
        "nvmlSystemGetCudaDriverVersion": lambda: 12040,
        "nvmlSystemGetDriverVersion": lambda: "550.54",
        "nvmlDeviceGetClockInfo": lambda handle, kind: {1: 1980, 2: 2619}[kind],
        "nvmlDeviceGetTemperature": lambda handle, sensor: 41,
        "nvmlDeviceGetCurrentClocksEventReasons": lambda handle: 0,
        "nvmlDeviceGetTotalEnergyConsumption": lambda handle: 5_000_000,
        "nvmlDeviceGetUtilizationRates": lambda handle: types.SimpleNamespace(gpu=97, memory=40),
        "NVMLError": NVMLError,
    }
    return types.SimpleNamespace(**{n: f for n, f in (functions | changes).items() if n not in without})


def gpu_at(index):
    return f"index {index}" if index < 2 else fail()


def install(monkeypatch, **changes):
    """Have mpbench find a stand-in in the place of the driver's library; returns it."""
    library = stand_in(**changes)
    monkeypatch.setitem(sys.modules, "pynvml", library)
    return library

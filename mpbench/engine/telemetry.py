"""What is read of the machine while arms are measured: the GPU's clocks, temperature, reasons for a lower clock, energy
and utilisation, through NVML; and what others use of the CPU.

Knows nothing of TensorFlow. What a driver, a card or an older binding does not say is None and is asked no more; no
reading ever raises, since none is worth a case's figures. Another vendor's device, or none, has no telemetry.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from mpbench.system import machine, nvidia
from mpbench.system.device import Device

# Bits of the clocks-event reasons (until driver 535: clocks-throttle reasons), the same in every nvml.h.
SOFTWARE_POWER_CAP = 0x4
HARDWARE_SLOWDOWN = 0x8
SOFTWARE_THERMAL_SLOWDOWN = 0x20
HARDWARE_THERMAL_SLOWDOWN = 0x40
HARDWARE_POWER_BRAKE = 0x80
THROTTLING = HARDWARE_SLOWDOWN | SOFTWARE_THERMAL_SLOWDOWN | HARDWARE_THERMAL_SLOWDOWN | HARDWARE_POWER_BRAKE

# Values of NVML's enums that older bindings name alike.
SM_CLOCK = 1
MEMORY_CLOCK = 2
GPU_SENSOR = 0


@dataclass(frozen=True)
class Reading:
    """The state of the GPU at one moment; of several GPUs the slowest clock, the hottest, the reasons of all.

    Only what is true of this moment: NVML's power and utilisation are averages over up to a second before, in which
    the other arms of the group ran too.

    Attributes:
        sm_clock_mhz, memory_clock_mhz, temperature_c: None where the driver does not say, as all others.
        reasons: bit mask of the reasons for which the clock is lower than it could be.
    """

    sm_clock_mhz: float | None = None
    memory_clock_mhz: float | None = None
    temperature_c: float | None = None
    reasons: int | None = None

    @property
    def throttled(self) -> bool:
        """Whether heat or a fault of the supply slows the GPU down: what is measured then says nothing of the step."""
        return bool((self.reasons or 0) & THROTTLING)

    @property
    def power_limited(self) -> bool | None:
        """Whether the clock is lowered to stay within the power limit; None where nothing is said of reasons.

        Not throttling: it is how a GPU behaves under full load. To leave such rounds out would leave out the busiest.
        """
        return None if self.reasons is None else bool(self.reasons & SOFTWARE_POWER_CAP)


class Telemetry:
    """Readings of the GPUs that the cases run on, at least one, through handles of the initialised NVML."""

    def __init__(self, nvml: Any, gpus: list[Any]) -> None:
        self._nvml = nvml
        self._gpus = gpus
        self._unanswered: set[tuple[Any, ...]] = set()

    def read(self) -> Reading:
        sm = self._ask("nvmlDeviceGetClockInfo", SM_CLOCK)
        memory = self._ask("nvmlDeviceGetClockInfo", MEMORY_CLOCK)
        celsius = self._ask("nvmlDeviceGetTemperatureV", GPU_SENSOR)
        celsius = celsius or self._ask("nvmlDeviceGetTemperature", GPU_SENSOR)
        reasons = self._ask("nvmlDeviceGetCurrentClocksEventReasons")
        reasons = reasons or self._ask("nvmlDeviceGetCurrentClocksThrottleReasons")
        return Reading(
            sm_clock_mhz=min(map(float, sm)) if sm else None,
            memory_clock_mhz=min(map(float, memory)) if memory else None,
            temperature_c=max(map(float, celsius)) if celsius else None,
            reasons=int(np.bitwise_or.reduce([int(mask) for mask in reasons])) if reasons else None,
        )

    def joules(self) -> float | None:
        """Energy used by all of the GPUs since their driver was loaded; None where there is no such counter.

        NVML counts in mJ, and adds to it only every 20 to 100 ms.
        """
        millijoules = self._ask("nvmlDeviceGetTotalEnergyConsumption")
        return sum(millijoules) / 1000 if millijoules else None

    def utilisation_percent(self) -> float | None:
        """Share of the time in which a kernel ran, over the driver's last period (up to a second); the least busy."""
        rates = self._ask("nvmlDeviceGetUtilizationRates")
        return min(float(rate.gpu) for rate in rates) if rates else None

    def _ask(self, function: str, *args: int) -> list[Any] | None:
        """What a function says of each GPU; None for good once it has failed, or where the binding has none."""
        question = (function, *args)
        if question in self._unanswered:
            return None
        try:
            return [getattr(self._nvml, function)(gpu, *args) for gpu in self._gpus]
        except Exception:  # NVMLError, or what a binding makes of a driver of another age
            self._unanswered.add(question)
            return None


@contextmanager
def open_telemetry(device: Device, gpus: int = 1) -> Iterator[Telemetry | None]:
    """Telemetry of the first visible GPUs; None for a CPU, without NVML, or where it does not see so many.

    The device is TensorFlow's: that NVML sees a GPU does not mean that cases run on it.
    """
    if device.kind != "gpu":
        yield None
        return
    with nvidia.nvml() as (nvml, _):
        handles = [] if nvml is None else nvidia.visible_gpus(nvml, gpus)
        yield Telemetry(nvml, handles) if handles and len(handles) == gpus else None


class Readings:
    """Of one arm, a reading for each of its rounds, in order."""

    def __init__(self, telemetry: Telemetry) -> None:
        self.telemetry = telemetry
        self.taken: list[Reading] = []

    def take(self) -> bool:
        """Take one, right after a round and outside the timed region; returns whether the GPU is throttled."""
        self.taken.append(self.telemetry.read())
        return self.taken[-1].throttled

    def summary(self) -> dict[str, Any]:
        """The fields of SpeedRecord that say what was read."""

        def of(figure: Callable[[list[float]], Any], name: str) -> float | None:
            values = [float(value) for one in self.taken if (value := getattr(one, name)) is not None]
            return float(figure(values)) if values else None

        return {
            "sm_clock_mhz": of(np.median, "sm_clock_mhz"),
            "memory_clock_mhz": of(np.median, "memory_clock_mhz"),
            "temperature_c": of(max, "temperature_c"),
            "power_limited_share": of(np.mean, "power_limited"),
        }


class OthersOnCpu:
    """What other processes use of the CPU while something is measured, as often as `watched` is entered."""

    def __init__(self) -> None:
        self._used: float | None = 0.0
        self._seconds = 0.0

    @contextmanager
    def watched(self) -> Iterator[None]:
        before, began = machine.others_cpu_seconds(), time.monotonic()
        yield
        after, seconds = machine.others_cpu_seconds(), time.monotonic() - began
        self._seconds += seconds
        if self._used is None or before is None or after is None:
            self._used = None
        else:
            self._used += max(after - before, 0.0)

    @property
    def share(self) -> float | None:
        """Of all cores' time; None where unknown."""
        if self._used is None or not self._seconds:
            return None
        return round(self._used / (self._seconds * (os.cpu_count() or 1)), 4)

"""The GPU's own readings, through NVML: clocks, temperature, why the clock is lowered, energy, utilisation.

Knows nothing of TensorFlow. What a driver, a card or an older binding does not say is None and is asked no more; no
reading ever raises, since none is worth a case's figures. Another vendor's device, or none, has no telemetry.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mpbench.system import nvidia
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
        """Whether heat or a fault of the supply slows the GPU down: what is measured then says nothing of the step.

        The reading comes at the end of a round; throttling that is over by then is not seen.
        """
        return bool((self.reasons or 0) & THROTTLING)

    @property
    def power_limited(self) -> bool | None:
        """Whether the clock is lowered to stay within the power limit.

        Not throttling: it is how a GPU behaves under full load, for as long as the load lasts and wherever it stands.
        To leave such rounds out would be to leave out the busiest steps. None where nothing is said of reasons.
        """
        return None if self.reasons is None else bool(self.reasons & SOFTWARE_POWER_CAP)


class Telemetry:
    """Readings of the GPUs that the cases run on, taken through handles that stay open.

    Args:
        nvml: the module, initialised.
        gpus: its handles, at least one.
    """

    def __init__(self, nvml: Any, gpus: list[Any]) -> None:
        self._nvml = nvml
        self._gpus = gpus
        self._unanswered: set[tuple[Any, ...]] = set()

    def read(self) -> Reading:
        sm = self._ask("nvmlDeviceGetClockInfo", SM_CLOCK)
        memory = self._ask("nvmlDeviceGetClockInfo", MEMORY_CLOCK)
        celsius = self._ask("nvmlDeviceGetTemperatureV", GPU_SENSOR) or self._ask(
            "nvmlDeviceGetTemperature", GPU_SENSOR
        )
        reasons = self._ask("nvmlDeviceGetCurrentClocksEventReasons") or self._ask(
            "nvmlDeviceGetCurrentClocksThrottleReasons"
        )
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
    """Telemetry of the device that the cases run on; None for a CPU, without NVML, or where it does not see them all.

    Args:
        device: as TensorFlow has it: that NVML sees a GPU does not mean that cases run on it.
        gpus: how many are used, the first of the visible ones.
    """
    if device.kind != "gpu":
        yield None
        return
    with nvidia.nvml() as (nvml, _):
        handles = [] if nvml is None else nvidia.visible_gpus(nvml, gpus)
        yield Telemetry(nvml, handles) if handles and len(handles) == gpus else None


@dataclass
class Readings:
    """Of one arm, a reading for each of its rounds.

    Attributes:
        telemetry: where they come from.
        taken: so far, in order.
    """

    telemetry: Telemetry
    taken: list[Reading] = field(default_factory=list)

    def take(self) -> bool:
        """Take one, right after a round and outside the timed region; returns whether the GPU is throttled."""
        self.taken.append(self.telemetry.read())
        return self.taken[-1].throttled

    @property
    def sm_clock_mhz(self) -> float | None:
        """Median."""
        return _of(np.median, [reading.sm_clock_mhz for reading in self.taken])

    @property
    def memory_clock_mhz(self) -> float | None:
        """Median."""
        return _of(np.median, [reading.memory_clock_mhz for reading in self.taken])

    @property
    def temperature_c(self) -> float | None:
        """The highest."""
        return _of(max, [reading.temperature_c for reading in self.taken])

    @property
    def power_limited_share(self) -> float | None:
        """Of the readings that tell reasons."""
        return _of(np.mean, [reading.power_limited for reading in self.taken])


def _of(figure: Callable[[list[float]], Any], values: list[Any]) -> float | None:
    known = [float(value) for value in values if value is not None]
    return float(figure(known)) if known else None

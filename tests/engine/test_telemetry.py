"""engine.telemetry against a stand-in for NVML: what it says, what it does not, and a driver that fails meanwhile."""

import sys
import types
from functools import partial

import pytest
from fake_nvml import fail, install, stand_in

from mpbench.engine.telemetry import Reading, Readings, Telemetry, open_telemetry
from mpbench.system.device import Device

GPU = Device("gpu", "/GPU:0")
SILENT = Reading()


@pytest.fixture
def nvml(monkeypatch):
    """Puts a stand-in in the place of the driver's library."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return partial(install, monkeypatch)


def of_one(**changes):
    return Telemetry(stand_in(**changes), ["index 0"])


def test_a_gpus_readings(nvml):
    nvml()
    with open_telemetry(GPU) as telemetry:
        assert telemetry.read() == Reading(1980.0, 2619.0, 41.0, 0)
        assert telemetry.joules() == 5000.0
        assert telemetry.utilisation_percent() == 97.0


@pytest.mark.parametrize(
    ("reasons", "throttled", "limited"),
    [
        (0x0, False, False),
        (0x1, False, False),  # idle
        (0x2, False, False),  # clocks set by the user
        (0x4, False, True),
        (0x8, True, False),
        (0x20, True, False),
        (0x40, True, False),
        (0x80, True, False),
        (0x10 | 0x100 | 0x200 | 0x400, False, False),
        (0x4 | 0x40, True, True),
    ],
)
def test_heat_and_a_weak_supply_are_throttling_and_the_power_limit_is_not(reasons, throttled, limited):
    reading = of_one(nvmlDeviceGetCurrentClocksEventReasons=lambda gpu: reasons).read()
    assert (reading.throttled, reading.power_limited) == (throttled, limited)


def test_where_reasons_are_unknown_neither_is_claimed():
    assert (SILENT.throttled, SILENT.power_limited) == (False, None)


def test_of_several_gpus_the_worst_counts_and_energy_is_that_of_all(nvml):
    of = {"index 0": 0, "index 1": 1}
    nvml(
        nvmlDeviceGetClockInfo=lambda gpu, kind: (1980, 1700)[of[gpu]] if kind == 1 else (2600, 2619)[of[gpu]],
        nvmlDeviceGetTemperature=lambda gpu, sensor: (50, 71)[of[gpu]],
        nvmlDeviceGetCurrentClocksEventReasons=lambda gpu: (0x4, 0x40)[of[gpu]],
        nvmlDeviceGetTotalEnergyConsumption=lambda gpu: (1_500, 2_000)[of[gpu]],
        nvmlDeviceGetUtilizationRates=lambda gpu: types.SimpleNamespace(gpu=(99, 80)[of[gpu]]),
    )
    with open_telemetry(GPU, gpus=2) as telemetry:
        assert telemetry.read() == Reading(1700.0, 2600.0, 71.0, 0x44)
        assert telemetry.joules() == 3.5
        assert telemetry.utilisation_percent() == 80.0


def test_it_is_the_visible_gpus_that_are_read(nvml, monkeypatch):
    nvml(nvmlDeviceGetTemperature=lambda gpu, sensor: {"index 0": 40, "index 1": 60}[gpu])
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    with open_telemetry(GPU) as telemetry:
        assert telemetry.read().temperature_c == 60.0


def test_fewer_gpus_than_are_used_are_no_telemetry(nvml):
    nvml()
    with open_telemetry(GPU, gpus=3) as telemetry:
        assert telemetry is None


def test_on_a_cpu_there_is_none_whatever_nvml_sees(nvml):
    nvml(nvmlInit=lambda: pytest.fail("asked"))
    with open_telemetry(Device("cpu", "/CPU:0")) as telemetry:
        assert telemetry is None


def test_without_the_module_there_is_none(monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", None)
    with open_telemetry(GPU) as telemetry:
        assert telemetry is None


@pytest.mark.parametrize("function", ["nvmlInit", "nvmlDeviceGetHandleByIndex"])
def test_without_a_driver_or_a_gpu_there_is_none(nvml, function):
    nvml(**{function: fail})
    with open_telemetry(GPU) as telemetry:
        assert telemetry is None


def test_the_library_is_opened_once_and_closed_also_after_an_error(nvml):
    log = []
    nvml(nvmlInit=lambda: log.append("open"), nvmlShutdown=lambda: log.append("close"))

    def read_and_break():
        with open_telemetry(GPU) as telemetry:
            for _ in range(3):
                telemetry.read()
            raise KeyError

    with pytest.raises(KeyError):
        read_and_break()
    assert log == ["open", "close"]


def test_an_older_binding_has_other_names():
    telemetry = of_one(
        without=["nvmlDeviceGetCurrentClocksEventReasons"],
        nvmlDeviceGetCurrentClocksThrottleReasons=lambda gpu: 0x20,
    )
    assert telemetry.read().throttled


def test_a_newer_binding_on_an_older_driver_too():
    telemetry = of_one(
        nvmlDeviceGetCurrentClocksEventReasons=fail,
        nvmlDeviceGetCurrentClocksThrottleReasons=lambda gpu: 0x20,
        nvmlDeviceGetTemperatureV=fail,
    )
    assert telemetry.read() == Reading(1980.0, 2619.0, 41.0, 0x20)


def test_the_successor_of_the_temperature_is_known():
    telemetry = of_one(without=["nvmlDeviceGetTemperature"], nvmlDeviceGetTemperatureV=lambda gpu, sensor: 66)
    assert telemetry.read().temperature_c == 66.0


def test_a_very_old_binding_says_what_it_can():
    telemetry = of_one(
        without=[
            "nvmlDeviceGetCurrentClocksEventReasons",
            "nvmlDeviceGetTotalEnergyConsumption",
            "nvmlDeviceGetUtilizationRates",
        ]
    )
    assert telemetry.read() == Reading(1980.0, 2619.0, 41.0, None)
    assert telemetry.joules() is None
    assert telemetry.utilisation_percent() is None


def test_what_a_card_does_not_know_is_asked_once():
    asked = []

    def clock(gpu, kind):
        asked.append(kind)
        return 1500 if kind == 1 else fail()

    telemetry = of_one(nvmlDeviceGetClockInfo=clock)
    readings = [telemetry.read() for _ in range(3)]
    assert readings == [Reading(1500.0, None, 41.0, 0)] * 3
    assert asked == [1, 2, 1, 1]


def test_a_driver_that_fails_in_the_middle_ends_the_readings_and_nothing_else():
    alive = [True]

    def answers(value):
        return lambda *args: value if alive[0] else fail()

    telemetry = of_one(
        nvmlDeviceGetClockInfo=answers(1500),
        nvmlDeviceGetTemperature=answers(80),
        nvmlDeviceGetCurrentClocksEventReasons=answers(0x4),
        nvmlDeviceGetTotalEnergyConsumption=answers(1000),
        nvmlDeviceGetUtilizationRates=answers(types.SimpleNamespace(gpu=99)),
    )
    readings = Readings(telemetry)
    assert (readings.take(), telemetry.joules()) == (False, 1.0)
    alive[0] = False
    assert (readings.take(), telemetry.joules(), telemetry.utilisation_percent()) == (False, None, None)
    assert readings.taken[1] == SILENT
    assert list(readings.summary().values()) == [1500.0, 1500.0, 80.0, 1.0]
    alive[0] = True
    readings.take()
    assert readings.taken[2] == SILENT


def test_what_is_recorded_of_an_arms_rounds():
    states = iter([(1980, 50, 0), (1500, 70, 0x4), (1600, 90, 0x40), (1700, 60, 0x4)])
    now = {}

    def clock(gpu, kind):
        if kind == 1:
            now["state"] = next(states)
            return now["state"][0]
        return 2619

    readings = Readings(
        of_one(
            nvmlDeviceGetClockInfo=clock,
            nvmlDeviceGetTemperature=lambda *args: now["state"][1],
            nvmlDeviceGetCurrentClocksEventReasons=lambda gpu: now["state"][2],
        )
    )
    assert [readings.take() for _ in range(4)] == [False, False, True, False]
    assert readings.summary() == {
        "sm_clock_mhz": 1650.0,
        "memory_clock_mhz": 2619.0,
        "temperature_c": 90.0,
        "power_limited_share": 0.5,
    }


def test_of_no_reading_nothing_is_recorded():
    assert set(Readings(of_one()).summary().values()) == {None}

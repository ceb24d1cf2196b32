"""engine.tracing, engine.memory: what a step had on the device is gone when the next one needs it, however it ended."""

import gc
import weakref
from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf
from tiny_plans import measure_group, plan

from mpbench.engine import memory
from mpbench.engine import step as stepping
from mpbench.engine.step import Step
from mpbench.records.measured import Measured
from mpbench.system.device import Device

pytestmark = pytest.mark.tensorflow

FULL = tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor")
BROKEN = tf.errors.InternalError(None, None, "cuDNN launch failure")


class Weights:
    """The weights of every model that a step has built, in order, each by the handle that keeps it on the device."""

    def __init__(self):
        self._handles = []

    def add(self, model):
        self._handles.append([weakref.ref(weight.value.handle) for weight in model.weights])

    @property
    def alive(self):
        """For each model whether any weight of it is."""
        return [any(handle() is not None for handle in of_one) for of_one in self._handles]


@pytest.fixture
def weights(monkeypatch):
    """Those of the models that are built from here on; and which of them are alive when the last step begins."""
    found, build, start = Weights(), stepping.built_with_data, Step.start

    def building(*args):
        built = build(*args)
        found.add(built[0])
        return built

    def starting(self):
        found.alive_at_last_start = found.alive
        start(self)

    monkeypatch.setattr(stepping, "built_with_data", building)
    monkeypatch.setattr(Step, "start", starting)
    return found


def raised_by(monkeypatch, method, error, when):
    """Makes a step's method raise in the float32 arm, at its n-th call."""
    real, calls = getattr(Step, method), []

    def planted(self, *args):
        call = getattr(self, "_call", None)  # held by the frame, as the real one does
        calls.append(self.spec.precision.name)
        if calls[-1] == "float32" and calls.count("float32") == when:
            raise error.with_traceback(None)
        del call
        return real(self, *args)

    monkeypatch.setattr(Step, method, planted)


def test_after_a_group_nothing_of_it_is_left(weights):
    outcomes = measure_group(plan({"float32": "classifier", "mixed_float16": "classifier"}), print)
    assert all(isinstance(one, Measured) for one in outcomes.values())
    assert weights.alive == [False, False]


@pytest.mark.parametrize("overlapped", [False, True])
@pytest.mark.parametrize(
    ("method", "error"), [("_prepare_training", FULL), ("_trace", FULL), ("run", FULL), ("run", BROKEN)]
)
def test_what_fails_while_it_is_built_is_gone_before_the_next_one_runs(weights, monkeypatch, method, error, overlapped):
    raised_by(monkeypatch, method, error, when=1)
    arms = replace(plan({"float32": "classifier", "mixed_float16": "classifier"}), overlapped=overlapped)
    gc.disable()  # what is left to chance must not pass
    try:
        outcomes = measure_group(arms, print)
    finally:
        gc.enable()
    assert isinstance(outcomes["float32"], Exception)
    assert isinstance(outcomes["mixed_float16"], Measured)
    assert weights.alive_at_last_start == [False, True]
    assert weights.alive == [False, False]


@pytest.mark.parametrize("error", [FULL, BROKEN], ids=["out of memory", "another error"])
def test_what_fails_while_it_is_measured_is_gone_after_its_group(weights, monkeypatch, error):
    raised_by(monkeypatch, "run", error, when=5)
    outcomes = measure_group(plan({"float32": "classifier", "mixed_float16": "classifier"}), print)
    assert isinstance(outcomes["float32"], Exception)
    assert isinstance(outcomes["mixed_float16"], Measured)
    assert weights.alive == [False, False]


def test_an_error_still_says_where_it_came_from(monkeypatch):
    raised_by(monkeypatch, "_trace", BROKEN, 1)
    error = measure_group(plan({"float32": "classifier"}), print)["float32"]
    names = []
    trace = error.__traceback__
    while trace is not None:
        names.append(trace.tb_frame.f_code.co_name)
        trace = trace.tb_next
    assert names[-2:] == ["trace", "planted"]


def test_peak_memory_of_the_process_follows_a_large_array():
    cpu = Device("cpu", "/CPU:0")
    memory.reset_peak(cpu)
    before = memory.peak_bytes(cpu)
    np.ones(2**26)  # half a GiB, touched and gone
    assert memory.peak_bytes(cpu) - before > 2**28

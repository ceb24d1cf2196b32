"""mpbench.why.measuring.probe: a group of probes with a simulated clock; what becomes of those that fail."""

from functools import partial

import pytest

from mpbench.engine.interleave import Plan
from mpbench.errors import CaseFailure
from mpbench.records.diagnostics import PeakRecord, Probed
from mpbench.system.device import Device
from mpbench.why.measuring.probe import LEAST_SECONDS, Builder, Probe, measure_probes

pytestmark = pytest.mark.tensorflow

CPU = Device("cpu", "/CPU:0")
COMMON = dict(model="", phase="", device="cpu", device_name="CPU", profile="quick", batch_size=2, image_size=80)
RECORD = partial(PeakRecord, precision="float32", jit=False, tf32=False, what="copy", size="x", flops=0.0, bytes=1.0)


class Machine:
    """A clock that only its probes move."""

    def __init__(self):
        self.now = 0.0
        self.log = []

    def __call__(self):
        return self.now

    def probe(self, name, step_seconds, **more):
        def run(times):
            self.now += times * step_seconds
            self.log.append(name)

        return Probe(run, RECORD, **more)


def measured(machine, **builds):
    builders = [Builder([name], build) for name, build in builds.items()]
    return measure_probes(builders, Plan(1.0), COMMON, CPU, "batch 2", lambda text: None, clock=machine)


def test_rounds_and_record_of_each():
    machine = Machine()
    outcomes = measured(
        machine,
        one=lambda say: {"one": machine.probe("one", 0.01)},
        two=lambda say: {"two": machine.probe("two", 0.02)},
    )
    for name, seconds in (("one", 0.01), ("two", 0.02)):
        assert isinstance(outcomes[name], Probed)
        assert outcomes[name].rounds == pytest.approx([seconds] * outcomes[name].record.rounds)
        assert not outcomes[name].record.noisy
        assert outcomes[name].record.steps_per_round > 1


def test_one_that_cannot_be_built_or_fails_costs_the_others_nothing():
    machine = Machine()

    def no_memory(say):
        raise MemoryError

    def broken(times):
        raise ValueError("broken")

    def not_finite():
        raise CaseFailure("not finite")

    released = []
    outcomes = measured(
        machine,
        whole=lambda say: {"whole": machine.probe("whole", 0.01, release=lambda: released.append("whole"))},
        large=no_memory,
        broken=lambda say: {"broken": Probe(broken, RECORD, release=lambda: released.append("broken"))},
        wrong=lambda say: {"wrong": machine.probe("wrong", 0.01, check=not_finite)},
    )
    assert isinstance(outcomes["whole"], Probed)
    assert "out of memory on the cpu at batch 2" in str(outcomes["large"])
    assert str(outcomes["broken"]) == "broken"
    assert str(outcomes["wrong"]) == "not finite"
    assert released == ["whole", "broken"]


def test_before_and_after_enclose_every_round_and_are_not_timed():
    machine = Machine()

    def costly(what):
        machine.now += 5.0
        machine.log.append(what)

    outcomes = measured(
        machine,
        one=lambda say: {
            "one": machine.probe("one", 0.2, before=lambda: costly("before"), after=lambda: costly("after"))
        },
    )
    assert outcomes["one"].rounds == pytest.approx([0.2] * outcomes["one"].record.rounds)
    assert set(zip(*[iter(machine.log)] * 3, strict=True)) == {("before", "one", "after")}


def test_what_is_no_longer_than_what_is_taken_off_is_noisy_and_adds_nothing():
    machine = Machine()
    outcomes = measured(
        machine,
        long=lambda say: {"long": machine.probe("long", 0.5, seconds=lambda measured: (measured - 0.1) / 4)},
        short=lambda say: {"short": machine.probe("short", 0.1, seconds=lambda measured: measured - 0.1)},
    )
    assert outcomes["long"].rounds == pytest.approx([0.1] * outcomes["long"].record.rounds)
    assert not outcomes["long"].record.noisy
    assert set(outcomes["short"].rounds) == {LEAST_SECONDS}
    assert outcomes["short"].record.noisy

"""mpbench.engine.largest_batch: the largest batch of a real step, found by attempts that run out of memory."""

import pytest

from mpbench.config.precisions import PRECISIONS
from mpbench.config.profiles import LARGEST_BATCH
from mpbench.engine import memory
from mpbench.engine.largest_batch import confirm, expected_peak, fit
from mpbench.errors import CaseFailure
from mpbench.system import machine
from mpbench.system.device import Device

pytestmark = pytest.mark.tensorflow

GIB = 2**30
CPU = Device("cpu", "/CPU:0")


def free_step(model="room_for_37_or_80", precision="float32", phase="training"):
    from mpbench.engine.plan import StepSpec
    from mpbench.engine.step import Step

    return Step(StepSpec(f"tiny_models:{model}", PRECISIONS[precision], phase, LARGEST_BATCH, 16, None, CPU))


@pytest.mark.parametrize(("precision", "room"), [("float32", 37), ("mixed_float16", 80)])
def test_the_largest_batch_is_found_by_attempts_of_which_some_fail(precision, room):
    step, messages = free_step(precision=precision), []
    fit(step, messages.append)
    assert room - room // 16 <= step.spec.batch_size <= room
    assert step.batch.samples == step.batch.y.shape[0] == step.spec.batch_size
    tried = [int(line.rsplit(" ", 1)[1]) for line in messages if line.startswith("trying")]
    assert max(tried) > room
    confirm(step, messages.append)
    assert not any("no longer" in line for line in messages)
    step.check()
    assert step.skipped_steps() < step.steps


def test_a_batch_that_no_longer_fits_is_made_smaller():
    step, messages = free_step(phase="inference"), []
    step.set_batch(40)
    confirm(step, messages.append)
    assert step.spec.batch_size == 36  # 40, 38, 36: a sixteenth less each time
    assert messages == ["a batch of 40 no longer fits: 38", "a batch of 38 no longer fits: 36"]


def test_on_a_host_no_batch_is_tried_that_would_not_fit(monkeypatch):
    step, messages = free_step("classifier", phase="inference"), []
    monkeypatch.setattr(memory, "reset_peak", lambda device: 0)
    monkeypatch.setattr(memory, "peak_bytes", lambda device: (1 + step.spec.batch_size) * GIB)
    monkeypatch.setattr(machine, "room_bytes", lambda: 100 * GIB)
    fit(step, messages.append)
    tried = [int(line.rsplit(" ", 1)[1]) for line in messages]
    assert max(tried) <= 0.9 * 100 - 1
    assert step.spec.batch_size == max(tried) >= 84


def test_without_knowing_the_room_nothing_is_tried_on_a_host(monkeypatch):
    monkeypatch.setattr(machine, "room_bytes", lambda: None)
    with pytest.raises(CaseFailure, match="nothing says how much memory"):
        fit(free_step(phase="inference"), print)


def test_the_room_of_this_machine():
    room = machine.room_bytes()
    assert room is None or room > memory.peak_bytes(CPU) / 2


def test_expected_peak_is_on_the_line_through_the_last_two():
    assert expected_peak({}, 8) == expected_peak({1: 5}, 8) == 0
    assert expected_peak({1: 100, 2: 110, 4: 130}, 8) == 170
    assert expected_peak({2: 110, 4: 100}, 8) == 100  # a peak of the process can only have been of something else

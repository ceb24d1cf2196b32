"""mpbench.engine.group with tiny real models: what one arm's fault means for the others."""

import itertools
from contextlib import contextmanager
from dataclasses import replace

import pytest
from tiny_plans import measure_group, plan

from mpbench.engine import building, energy
from mpbench.engine import group as groups
from mpbench.engine.interleave import Measurement
from mpbench.engine.step import Step
from mpbench.engine.telemetry import HARDWARE_SLOWDOWN, SOFTWARE_POWER_CAP, Reading
from mpbench.errors import CaseFailure
from mpbench.records.marks import Mark
from mpbench.records.measured import Measured
from mpbench.records.speed import BROKEN_OFF, SPEED
from mpbench.stats.intervals import MIN_PAIRS
from mpbench.system import machine
from mpbench.system.cluster import Cluster

pytestmark = pytest.mark.tensorflow


def test_both_arms_get_a_record_and_the_ratio_belongs_to_the_second():
    messages = []
    outcomes = measure_group(plan({"float32": "classifier", "mixed_float16": "classifier"}), messages.append)
    base, mixed = outcomes["float32"], outcomes["mixed_float16"]
    assert isinstance(base, Measured)
    assert isinstance(mixed, Measured)
    assert base.record.speedup is None
    assert mixed.record.interval.low <= mixed.record.speedup <= mixed.record.interval.high
    assert len(mixed.rounds) == mixed.record.rounds
    assert mixed.record.images_per_second == pytest.approx(4 / mixed.median_seconds)
    assert messages[0] == "tiny training, float32: building"
    assert messages[-1].startswith("tiny training: ")


def test_a_baseline_found_wrong_afterwards_stands_under_no_ratio():
    outcomes = measure_group(plan({"float32": "frozen_learning_rate", "mixed_float16": "classifier"}), print)
    assert isinstance(outcomes["float32"], CaseFailure)
    assert outcomes["mixed_float16"].record.speedup is None
    assert outcomes["mixed_float16"].record.baseline is None


def test_a_baseline_that_cannot_be_built_leaves_the_others_their_times():
    outcomes = measure_group(plan({"float32": "raises", "mixed_float16": "classifier"}), print)
    assert "out of ideas" in str(outcomes["float32"])
    assert outcomes["mixed_float16"].record.speedup is None


def test_arms_that_share_their_weights_are_refused():
    outcomes = measure_group(plan({"float32": "the_same_again", "tf32": "the_same_again"}), print)
    assert "its factory returned the same weights twice" in str(outcomes["tf32"])
    assert isinstance(outcomes["float32"], Measured)


def test_of_several_workers_each_says_at_once_what_fails_there(monkeypatch):
    monkeypatch.setattr(groups, "agreement", lambda cluster: lambda mine: mine)
    monkeypatch.setattr(Step, "run", fails_when_measured(Step.run))
    messages = []
    two = Cluster(("one:1", "two:1"))
    outcomes = measure_group(replace(plan({"float32": "classifier", "tf32": "raises"}), cluster=two), messages.append)
    assert all(isinstance(outcome, Exception) for outcome in outcomes.values())
    found = [line for line in messages if "Error: " in line]
    assert [line.partition(": ")[0] for line in found] == ["tiny training, tf32", "tiny training"]
    assert "out of ideas" in found[0]
    assert found[1] == "tiny training: float32: RuntimeError: the device is lost"


def fails_when_measured(run):
    def failing(self, steps):
        if hasattr(self, "peak_memory_bytes"):
            raise RuntimeError("the device is lost")
        run(self, steps)

    return failing


def test_a_step_that_another_worker_skipped_is_not_taken_off_the_warm_up(monkeypatch):
    def agreed(self, after_others):
        visit(self, after_others)
        self.series["mixed_float16"].skipped_steps += 1

    visit = Measurement.visit
    monkeypatch.setattr(Measurement, "visit", agreed)
    record = measure_group(plan({"mixed_float16": "classifier"}), print)["mixed_float16"].record
    assert record.skipped_steps >= 1
    assert record.warmup_skipped_steps >= 0


def test_out_of_memory_names_batch_image_size_and_memory():
    outcomes = measure_group(plan({"float32": "classifier", "mixed_float16": "fails_under_mixed_float16"}), print)
    failure = outcomes["mixed_float16"]
    assert isinstance(failure, CaseFailure)
    assert str(failure).startswith("out of memory on the cpu at batch 4, 16 px, training (peak of the process so far ")
    assert isinstance(outcomes["float32"], Measured)


def test_tensorflows_own_out_of_memory_is_recognised(monkeypatch):
    import tensorflow as tf

    class Full:
        def __init__(self, spec, progress, whole):
            message = "OOM when allocating tensor with shape[64,224,224,64] and type float on /device:GPU:0 by BFC"
            raise tf.errors.ResourceExhaustedError(None, None, message)

    monkeypatch.setattr(building, "Step", Full)
    outcomes = measure_group(plan({"float32": "classifier"}), print)
    assert "allocating a tensor of shape[64,224,224,64] and type float (peak" in str(outcomes["float32"])


def test_a_case_that_mostly_skips_fails():
    outcomes = measure_group(plan({"mixed_float16": "overflows_every_other_step"}), print)
    assert "loss scaling skipped" in str(outcomes["mixed_float16"])
    assert "a skipped step is not a training step" in str(outcomes["mixed_float16"])


def test_what_others_used_of_the_cpu_is_recorded(monkeypatch):
    seconds = itertools.repeat(100.0)
    monkeypatch.setattr(machine, "others_cpu_seconds", lambda: next(seconds))
    outcomes = measure_group(plan({"float32": "classifier"}), print)
    assert outcomes["float32"].record.others_cpu_share == 0.0
    seconds = itertools.count(100.0, 3600.0)
    outcomes = measure_group(plan({"float32": "classifier"}), print)
    assert outcomes["float32"].record.others_cpu_share > 1


class Card:
    """A GPU's telemetry: throttled in every third reading, at its power limit in every second, at 100 J a look."""

    def __init__(self):
        self.readings = self.looks = 0

    def read(self):
        self.readings += 1
        slow = HARDWARE_SLOWDOWN if self.readings % 3 == 0 else 0
        return Reading(1000.0 + self.readings, 2600.0, 60.0, slow | (SOFTWARE_POWER_CAP if self.readings % 2 else 0))

    def joules(self):
        self.looks += 1
        return 100.0 * self.looks

    def utilisation_percent(self):
        return 97.0


def test_the_gpus_readings_enter_the_records_and_throttled_rounds_do_not_count(monkeypatch):
    for name in ("ENERGY_PASS_SECONDS", "LEAD_IN_SECONDS"):
        monkeypatch.setattr(energy, name, 0.01)
    card, opened = Card(), []

    @contextmanager
    def open_telemetry(device, gpus):
        opened.append(gpus)
        yield card

    monkeypatch.setattr(groups, "open_telemetry", open_telemetry)
    outcomes = measure_group(plan({"float32": "classifier", "mixed_float16": "classifier"}), lambda line: None)
    assert opened == [1]
    records = [outcome.record for outcome in outcomes.values()]
    assert sum(record.rounds for record in records) == card.readings
    out = [block for record in records for block in record.throttled_blocks.split(",") if block]
    assert len(out) == card.readings // 3
    for outcome in outcomes.values():
        record = outcome.record
        clear = record.rounds - len(list(filter(None, record.throttled_blocks.split(","))))
        assert record.throttled == (clear < MIN_PAIRS)
        assert len(outcome.judged.rounds) == (record.rounds if record.throttled else clear)
        assert record.images_per_second == pytest.approx(4 / outcome.median_seconds)
        assert record.joules_per_step > 0
        assert record.joules_per_image == record.joules_per_step / 4
        assert (record.utilisation_percent, record.memory_clock_mhz, record.temperature_c) == (97.0, 2600.0, 60.0)
        assert 1000 < record.sm_clock_mhz < 1000 + card.readings
        assert 0 < record.power_limited_share < 1
    assert SPEED.read(records[1].as_extra_info()) == records[1]


def test_a_cpu_has_no_readings():
    record = measure_group(plan({"float32": "classifier"}), lambda line: None)["float32"].record
    assert record.joules_per_step is record.sm_clock_mhz is record.power_limited_share is None
    assert record.throttled_blocks == ""


ENDINGS = [KeyboardInterrupt, SystemExit, TimeoutError, RuntimeError]


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("point", ["energy", "profile", "keeping what was added"])
def test_whatever_ends_a_group_after_its_last_round_costs_no_round(monkeypatch, point, ending):
    kept, messages = [], []

    def end(*_):
        raise ending("the end")

    def keep(measured):
        kept.append(measured)
        if point == "keeping what was added" and len(whole(kept)) == 2:
            end()

    def whole(kept):
        return [m for m in kept if not any(one.record.noisy_because == BROKEN_OFF for one in m.values())]

    if point == "energy":
        monkeypatch.setattr(groups.Group, "_add_energy", end)
    profile = end if point == "profile" else lambda step: {"no_step_profile": "not asked for"}
    arms = plan({"float32": "classifier", "mixed_float16": "classifier"})
    if issubclass(ending, Exception):
        outcomes = measure_group(arms, messages.append, keep, profile)
        assert all(isinstance(one, Measured) for one in outcomes.values())
        assert any("ended by" in line and "the end" in line for line in messages)
    else:
        with pytest.raises(ending):
            measure_group(arms, messages.append, keep, profile)
    first = whole(kept)[0]
    assert set(first) == {"float32", "mixed_float16"}
    assert all(len(one.rounds) == one.record.rounds >= MIN_PAIRS for one in first.values())


def test_a_group_that_is_ended_between_visits_keeps_what_it_has_and_says_so(monkeypatch):
    kept = []

    def visit(self, after_others):
        if len(self.visits) == 2:
            raise KeyboardInterrupt
        usual(self, after_others)

    usual = Measurement.visit
    monkeypatch.setattr(Measurement, "visit", visit)
    with pytest.raises(KeyboardInterrupt):
        measure_group(plan({"float32": "classifier"}), print, kept.append)
    assert [list(measured) for measured in kept] == [["float32"]] * 2
    assert kept[-1]["float32"].record.doubt is Mark.BROKEN_OFF
    assert len(kept[1]["float32"].rounds) > len(kept[0]["float32"].rounds)

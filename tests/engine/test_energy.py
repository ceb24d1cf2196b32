"""mpbench.engine.energy with a simulated clock and a counter that is late, as a GPU's is."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mpbench.engine.energy import ENERGY_PASS_SECONDS, ENERGY_PASSES, LEAD_IN_SECONDS, measure_energy
from mpbench.engine.interleave import Arm


class Gpu:
    """A device whose energy is counted exactly, and told as it was at the last update.

    Args:
        update_seconds: between two updates of the counter.
        settle_seconds: for which an arm, after another, still draws the power of that other one.
    """

    def __init__(self, update_seconds=0.1, settle_seconds=0.2):
        self.now, self.used, self.told = 0.0173, 0.0, 0.0
        self.log = []
        self._update, self._settle = update_seconds, settle_seconds
        self._running, self._since, self._watts = None, 0.0, 100.0

    def clock(self):
        return self.now

    def joules(self):
        return self.told

    def arm(self, name, step_seconds, watts, skips=lambda step: False, fails_at=None):
        state = {"steps": 0, "skipped": 0}

        def run(steps):
            if self._running != name:
                self._running, self._since = name, self.now
                self.log.append(name)
            for _ in range(steps):
                if state["steps"] == fails_at:
                    raise RuntimeError(f"{name} failed")
                state["skipped"] += skips(state["steps"])
                state["steps"] += 1
                if self.now - self._since >= self._settle:
                    self._watts = watts
                self._draw(step_seconds)

        return Arm(name, run, lambda: state["skipped"])

    def _draw(self, seconds):
        end = self.now + seconds
        last_update = math.floor(end / self._update) * self._update
        if last_update > self.now:
            self.told = self.used + self._watts * (last_update - self.now)
        self.used += self._watts * seconds
        self.now = end


def per_round(step_seconds):
    return max(1, round(0.1 / step_seconds))


def measured(gpu, arms, steps, utilisation=lambda: None, **kwargs):
    return measure_energy(arms, steps, gpu.joules, utilisation, clock=gpu.clock, **kwargs)


@settings(max_examples=25, deadline=None)
@given(
    step_ms=st.floats(0.5, 400),
    watts=st.floats(50, 1000),
    update_ms=st.sampled_from([1, 20, 50, 100]),
    seed=st.integers(0, 1000),
)
def test_a_late_counter_still_gives_the_energy_of_a_step(step_ms, watts, update_ms, seed):
    gpu, step = Gpu(update_ms / 1000), step_ms / 1000
    arms = [gpu.arm("a", step, watts), gpu.arm("b", step / 2, 2.5 * watts)]
    energy = measured(gpu, arms, {"a": per_round(step), "b": per_round(step / 2)}, seed=seed)
    # Late by less than an update at either end of two seconds; by less than a look where steps are short.
    late = min(update_ms / 1000, 0.025 if step < 0.02 else 1.0) / ENERGY_PASS_SECONDS
    assert energy["a"].joules_per_step == pytest.approx(step * watts, rel=late + 0.001)
    assert energy["b"].joules_per_step == pytest.approx(step / 2 * 2.5 * watts, rel=late + 0.001)
    assert energy["a"].joules_spread <= 2 * late + 0.001


def test_interleaved_rounds_of_a_tenth_of_a_second_would_smear_what_passes_keep_apart():
    gpu = Gpu()
    arms = {"a": gpu.arm("a", 0.01, 700), "b": gpu.arm("b", 0.01, 300)}
    naive = {"a": 0.0, "b": 0.0}
    for _ in range(20):
        for name, arm in arms.items():
            before = gpu.joules()
            arm.run(10)
            naive[name] += gpu.joules() - before
    assert naive["a"] / naive["b"] < 1.5  # the truth is 2.33
    energy = measured(gpu, list(arms.values()), {"a": 10, "b": 10})
    assert energy["a"].joules_per_step / energy["b"].joules_per_step == pytest.approx(700 / 300, rel=0.02)


def test_each_arm_has_its_passes_in_turns_and_orders_vary():
    gpu = Gpu()
    arms = [gpu.arm(name, 0.01, 300) for name in "abc"]
    measured(gpu, arms, dict.fromkeys("abc", 10))
    turns = [gpu.log[i : i + 3] for i in range(0, len(gpu.log), 3)]
    assert len(turns) == ENERGY_PASSES
    assert all(sorted(turn) == list("abc") for turn in turns)
    assert len(set(map(tuple, turns))) > 1
    seconds = 3 * ENERGY_PASSES * (LEAD_IN_SECONDS + ENERGY_PASS_SECONDS)
    assert seconds <= gpu.now <= 1.3 * seconds


def test_the_spread_is_that_of_the_passes_and_the_figure_is_their_median():
    gpu, each, running = Gpu(), iter([300, 345]), []
    # Named by its pass: another power from there on.
    arm = Arm("a", lambda steps: running[-1].run(steps), before=lambda: running.append(next_arm()))

    def next_arm():
        return gpu.arm(f"pass {len(running)}", 0.01, next(each))

    energy = measured(gpu, [arm], {"a": 10})["a"]
    assert energy.joules_per_step == pytest.approx(3.225, rel=0.01)
    assert energy.joules_spread == pytest.approx(0.45 / 3.225, abs=0.02)


def test_utilisation_is_read_at_the_end_of_each_pass():
    gpu, seen = Gpu(), iter([90.0, 99.0])
    energy = measured(gpu, [gpu.arm("a", 0.01, 300)], {"a": 10}, utilisation=lambda: next(seen))
    assert energy["a"].utilisation_percent == 94.5
    assert measured(gpu, [gpu.arm("a", 0.01, 300)], {"a": 10})["a"].utilisation_percent is None


def test_an_arm_that_raises_has_none_and_the_others_have_theirs():
    gpu = Gpu()
    arms = [gpu.arm("a", 0.01, 300), gpu.arm("b", 0.01, 300, fails_at=200)]
    messages = []
    energy = measured(gpu, arms, {"a": 10, "b": 10}, progress=messages.append)
    assert list(energy) == ["a"]
    assert messages == ["measuring energy", "b: no energy: RuntimeError: b failed"]
    assert energy["a"].joules_per_step == pytest.approx(3.0, rel=0.02)


def test_a_pass_with_a_skipped_step_is_left_out():
    gpu = Gpu()
    once = gpu.arm("a", 0.01, 300, skips=lambda step: step == 100)
    assert measured(gpu, [once], {"a": 10})["a"].joules_per_step == pytest.approx(3.0, rel=0.02)
    often = gpu.arm("b", 0.01, 300, skips=lambda step: step % 50 == 0)
    assert measured(gpu, [often], {"b": 10}) == {}


def test_where_nothing_counts_nothing_runs():
    gpu = Gpu()
    assert measure_energy([gpu.arm("a", 0.01, 300)], {"a": 10}, lambda: None, lambda: None, clock=gpu.clock) == {}
    assert gpu.log == []
    assert measured(gpu, [], {}) == {}


def test_a_counter_that_stands_still_is_no_energy():
    gpu = Gpu()
    assert measure_energy([gpu.arm("a", 0.01, 300)], {"a": 10}, lambda: 7.0, lambda: None, clock=gpu.clock) == {}


def test_a_counter_that_is_lost_or_begins_anew_is_no_energy():
    for last in (None, 0.0):
        gpu = Gpu()
        asked = iter(range(10**6))
        counter = lambda gpu=gpu, last=last, asked=asked: gpu.told if next(asked) < 5 else last  # noqa: E731
        assert measure_energy([gpu.arm("a", 0.01, 300)], {"a": 10}, counter, lambda: None, clock=gpu.clock) == {}

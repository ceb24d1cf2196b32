"""engine.interleave and engine.stopping on a simulated machine: turns, warm-up, stopping, and what they are worth."""

from dataclasses import replace

import pytest
from simulation import STEP_SECONDS, Machine

from mpbench.engine.interleave import (
    MAX_STEPS_PER_ROUND,
    ROUND_SECONDS,
    WARMUP_WINDOW_ROUNDS,
    Arm,
    Measurement,
    measure,
)
from mpbench.engine.stopping import LEAST_VISIT_BLOCKS, MIN_VISITS, VISIT_BLOCKS, Plan
from mpbench.records.rounds import paired
from mpbench.stats.intervals import MIN_PAIRS

RUNS = 100
LONG = Plan(max_seconds=30.0)
LEAST_BLOCKS = MIN_VISITS * VISIT_BLOCKS


def drifting(seed):
    """A machine that slows by 20 % over about the time that the measurement takes."""
    return Machine(seed, drift=0.2, drift_seconds=10.0, noise=0.01, burst_share=0.05)


def interleaved(seed, factor):
    machine = drifting(seed)
    arms = [machine.arm("a"), machine.arm("b", STEP_SECONDS * factor)]
    return measure(arms, LONG, baseline="a", clock=machine.clock, seed=seed)["b"].interval


def contains_one(interval):
    return interval.low <= 1 <= interval.high


def test_under_drift_a_step_against_itself_has_1_in_its_interval():
    assert sum(contains_one(interleaved(seed, 1.0)) for seed in range(RUNS)) >= 93


@pytest.mark.parametrize("factor", [1.05, 1 / 1.05])
def test_under_drift_a_difference_of_5_percent_is_found(factor):
    intervals = [interleaved(seed, factor) for seed in range(RUNS)]
    assert sum(not contains_one(i) and (i.estimate < 1) == (factor > 1) for i in intervals) >= 95


def test_one_after_the_other_the_same_drift_is_named():
    machine = drifting(1)
    alone = measure([machine.arm("a")], LONG, clock=machine.clock)["a"]
    assert alone.noisy
    assert alone.drift == pytest.approx(0.2, abs=0.1)
    machine = drifting(1)
    together = measure([machine.arm("a"), machine.arm("b")], LONG, baseline="a", clock=machine.clock)["b"]
    assert together.drift is None


NOISES = {
    "rounds that remember half": [Machine.Noise(memory=0.5, sd=0.01)] * 2,
    "rounds that remember nine tenths": [Machine.Noise(memory=0.9, sd=0.01)] * 2,
    "one arm that remembers": [Machine.Noise(memory=0.9, sd=0.01), Machine.Noise(sd=0.01)],
    "a clock that switches for one arm more than for the other": [
        Machine.Noise(sd=0.003, feels=1.0),
        Machine.Noise(sd=0.003, feels=0.4),
    ],
}


@pytest.mark.parametrize("noise", NOISES.values(), ids=NOISES)
def test_where_rounds_depend_on_each_other_a_step_against_itself_has_1_in_its_interval_or_is_noisy(noise):
    right = 0
    for seed in range(60):
        machine = Machine(seed, switching=0.1, switching_seconds=3.0)
        arms = [machine.arm(name, noise=its) for name, its in zip("ab", noise, strict=True)]
        b = measure(arms, LONG, baseline="a", clock=machine.clock, seed=seed)["b"]
        right += b.noisy or contains_one(b.speedup)
    assert right >= 54  # 0.93 of 60, less one standard error


def test_a_step_that_becomes_slower_is_drifting():
    machine = Machine(noise=0.005)
    slowing = machine.arm("b", lambda step: STEP_SECONDS * (1.1 if step > 25 else 1.0))
    b = measure([machine.arm("a"), slowing], LONG, baseline="a", clock=machine.clock)["b"]
    assert b.noisy
    assert b.drift == pytest.approx(0.1, abs=0.04)


def test_a_step_that_still_speeds_up_is_drifting():
    machine = Machine(noise=0.005)
    warming = machine.arm("b", lambda step: STEP_SECONDS * (1.2 - 0.2 * min(machine.now / 30, 1)))
    b = measure([machine.arm("a"), warming], LONG, baseline="a", clock=machine.clock)["b"]
    assert b.noisy
    assert b.drift > 0.05


def test_independent_noise_is_seldom_called_drifting_or_noisy():
    def one(seed):
        machine = Machine(seed, noise=0.005)
        return measure([machine.arm("a"), machine.arm("b")], LONG, baseline="a", clock=machine.clock, seed=seed)["b"]

    series = [one(seed) for seed in range(RUNS)]
    assert sum(b.drift is not None for b in series) <= 2
    assert sum(b.noisy for b in series) <= 2
    assert sum(len(b.rounds) for b in series) / RUNS < 2 * LEAST_BLOCKS


def test_visits_begin_where_they_say_and_after_others_with_a_block_that_does_not_count():
    machine = Machine()
    arms = [machine.arm("a"), replace(machine.arm("b"), baseline="a")]
    measurement = Measurement(arms, LONG, clock=machine.clock)
    while not measurement.done:
        before = len(machine.log)
        measurement.visit(after_others=True)
        assert len(machine.log) == before + 2 * (
            VISIT_BLOCKS + (1 if len(measurement.visits) > 1 else WARMUP_WINDOW_ROUNDS)
        )
    assert measurement.visits == [0, VISIT_BLOCKS, 2 * VISIT_BLOCKS]
    assert measurement.series["a"].warmup_rounds == WARMUP_WINDOW_ROUNDS + 2
    assert measurement.series["a"].blocks == list(range(LEAST_BLOCKS))


def test_the_first_visits_share_the_time_limit():
    machine = Machine()
    measurement = Measurement([machine.arm("a", 1.0)], Plan(max_seconds=12.0), clock=machine.clock)
    while not measurement.done:
        measurement.visit()
    assert measurement.visits == [0, 4, 8]
    assert len(measurement.series["a"].rounds) == 12


def test_a_clock_that_does_not_tick_fails_the_arm_by_name():
    machine = Machine()
    series = measure([machine.arm("a"), machine.arm("b", 0.0)], LONG, baseline="a", clock=machine.clock)
    assert str(series["b"].error) == f"a round of {MAX_STEPS_PER_ROUND} steps took no time by this clock"
    assert series["a"].interval is not None


def test_every_block_runs_every_arm_once_and_orders_vary():
    machine = Machine()
    names = ("a", "b", "c")
    measure([machine.arm(n) for n in names], LONG, baseline="a", clock=machine.clock)
    blocks = [tuple(n for n, _ in machine.log[i : i + 3]) for i in range(0, len(machine.log), 3)]
    assert all(sorted(block) == sorted(names) for block in blocks)
    assert len(set(blocks)) > 1


def test_quiet_arms_stop_after_the_least_number_of_visits():
    machine = Machine()
    series = measure([machine.arm("a"), machine.arm("b", 2 * STEP_SECONDS)], LONG, baseline="a", clock=machine.clock)
    assert len(series["b"].rounds) == LEAST_BLOCKS
    assert not series["b"].noisy
    assert series["b"].interval.estimate == pytest.approx(0.5)


def test_noise_ends_at_the_time_limit_and_is_called_noisy():
    machine = Machine(noise=0.5)
    plan = Plan(max_seconds=20.0)
    series = measure([machine.arm("a"), machine.arm("b")], plan, baseline="a", clock=machine.clock)
    assert series["b"].noisy
    assert series["b"].interval.relative_half_width > plan.tolerance
    assert machine.now <= plan.max_seconds * 1.6


def test_a_wider_tolerance_stops_earlier():
    def blocks(tolerance):
        machine = Machine(noise=0.05)
        plan = Plan(max_seconds=1000.0, tolerance=tolerance)
        return len(measure([machine.arm("a"), machine.arm("b")], plan, baseline="a", clock=machine.clock)["b"].rounds)

    assert blocks(0.05) < blocks(0.01)


def test_slow_steps_get_the_least_number_of_blocks_past_the_limit():
    machine = Machine()
    series = measure([machine.arm("a", 100.0)], Plan(max_seconds=1.0), clock=machine.clock)
    assert len(series["a"].rounds) == MIN_VISITS * LEAST_VISIT_BLOCKS > MIN_PAIRS
    assert series["a"].interval is not None


def test_short_steps_share_a_round():
    machine = Machine()
    series = measure([machine.arm("a", 0.001), machine.arm("b", 1e-6)], LONG, baseline="a", clock=machine.clock)
    assert series["a"].steps_per_round == pytest.approx(ROUND_SECONDS / 0.001, rel=0.02)
    assert series["b"].steps_per_round == MAX_STEPS_PER_ROUND
    assert series["a"].rounds[0] == pytest.approx(0.001)


def test_warm_up_lasts_until_the_series_is_stationary():
    machine = Machine()
    warming = machine.arm("a", lambda step: STEP_SECONDS * (1 + 2 * 0.7**step))
    series = measure([warming], LONG, clock=machine.clock)["a"]
    assert series.settled
    assert series.warmup_rounds > WARMUP_WINDOW_ROUNDS
    assert max(series.rounds) < STEP_SECONDS * 1.06


def test_a_series_that_never_settles_is_measured_and_says_so():
    machine = Machine()
    slowing = machine.arm("a", lambda step: STEP_SECONDS * 1.05**step)
    series = measure([slowing], Plan(max_seconds=10.0), clock=machine.clock)["a"]
    assert not series.settled
    assert series.rounds


def test_warm_up_goes_on_while_steps_are_skipped():
    machine = Machine()
    series = measure([machine.arm("a", skips=lambda step: step < 9)], LONG, clock=machine.clock)["a"]
    assert series.warmup_skipped_steps == 9
    assert series.warmup_rounds == 9 + WARMUP_WINDOW_ROUNDS
    assert series.skipped_steps == 0


def test_rounds_with_a_skipped_step_are_left_out_and_pairs_stay_pairs():
    machine = Machine(drift=0.2, drift_seconds=3.0)
    skipping = machine.arm("b", 2 * STEP_SECONDS, skips=lambda step: step > 10 and step % 4 == 0)
    series = measure([machine.arm("a"), skipping], LONG, baseline="a", clock=machine.clock)
    a, b = series["a"], series["b"]
    assert b.skipped_steps > 0
    assert len(b.rounds) == len(b.blocks) == len(a.blocks) - b.skipped_steps
    mine, theirs = paired(b, a)
    assert len(mine) == len(b.rounds)
    assert b.interval.estimate == pytest.approx(0.5, rel=0.02)
    assert theirs == [a.rounds[block] for block in b.blocks]


def test_an_arm_that_fails_leaves_the_others_their_measurement():
    machine = Machine()
    arms = [machine.arm("a"), machine.arm("b", fails_at=10), machine.arm("c", 2 * STEP_SECONDS)]
    series = measure(arms, LONG, baseline="a", clock=machine.clock)
    assert str(series["b"].error) == "b failed"
    assert series["c"].interval.estimate == pytest.approx(0.5)
    assert not series["c"].noisy


def test_an_arm_whose_counter_fails_leaves_the_others_too():
    machine = Machine()

    def lost():
        raise RuntimeError("device lost")

    arms = [machine.arm("a"), Arm("b", machine.arm("b").run, lost)]
    series = measure(arms, LONG, baseline="a", clock=machine.clock)
    assert str(series["b"].error) == "device lost"
    assert len(series["a"].rounds) >= LEAST_BLOCKS


def test_without_its_baseline_an_arm_is_measured_as_a_time():
    machine = Machine()
    series = measure([machine.arm("a", fails_at=0), machine.arm("b")], LONG, baseline="a", clock=machine.clock)
    assert series["a"].error is not None
    assert series["b"].interval.estimate == pytest.approx(STEP_SECONDS)
    assert series["b"].speedup is None


def test_a_baseline_with_too_few_clean_rounds_gives_no_speedup():
    machine = Machine()
    skipping = machine.arm("a", skips=lambda step: step > 8)
    series = measure([skipping, machine.arm("b")], Plan(max_seconds=5.0), baseline="a", clock=machine.clock)
    assert len(series["a"].rounds) < MIN_PAIRS
    assert series["b"].speedup is None
    assert series["b"].interval.estimate == pytest.approx(STEP_SECONDS)


def test_a_baseline_that_is_left_alone_is_judged_by_itself():
    machine = Machine(noise=0.02)
    series = measure([machine.arm("a"), machine.arm("b", fails_at=0)], LONG, baseline="a", clock=machine.clock)
    assert series["a"].interval.estimate == pytest.approx(STEP_SECONDS, rel=0.05)
    assert len(series["a"].rounds) >= LEAST_BLOCKS


def test_nothing_left_to_measure_ends_at_once():
    machine = Machine()
    series = measure([machine.arm("a", fails_at=0)], LONG, baseline="a", clock=machine.clock)
    assert series["a"].error is not None
    assert series["a"].rounds == []
    assert measure([], LONG) == {}


def compared(arm):
    """An arm of a group of four: `a` and `b` in two modes."""
    baselines, references = {"b": "a", "b fast": "a fast"}, {"a fast": "a", "b fast": "b"}
    return replace(arm, baseline=baselines.get(arm.name), reference=references.get(arm.name))


def test_each_arm_can_have_a_baseline_and_a_reference_of_its_own():
    machine = Machine()
    steps = {"a": 1.0, "b": 2.0, "a fast": 0.5, "b fast": 0.25}
    arms = [compared(machine.arm(name, STEP_SECONDS * factor)) for name, factor in steps.items()]
    series = measure(arms, LONG, clock=machine.clock)
    speedups = {name: one.speedup and one.speedup.estimate for name, one in series.items()}
    assert speedups == {"a": None, "b": pytest.approx(0.5), "a fast": None, "b fast": pytest.approx(2.0)}
    over = {name: one.over_reference and one.over_reference.estimate for name, one in series.items()}
    assert over == {"a": None, "b": None, "a fast": pytest.approx(2.0), "b fast": pytest.approx(8.0)}
    assert not any(one.noisy for one in series.values())


def test_arms_that_could_not_be_built_are_nobodys_base_and_have_none():
    machine = Machine()
    series = measure([compared(machine.arm(name)) for name in ("a", "b fast")], LONG, clock=machine.clock)
    assert [(one.speedup, one.over_reference) for one in series.values()] == [(None, None)] * 2
    assert not any(one.noisy for one in series.values())


def slowed(machine, name, share, factor=2.0):
    """An arm that is throttled, and slower by that factor, in so many rounds of those after warm-up."""
    state = {"round": -WARMUP_WINDOW_ROUNDS, "throttled": False}

    def seconds(step):
        state["round"] += 1
        state["throttled"] = state["round"] % 10 < 10 * share and state["round"] > 0
        return STEP_SECONDS * (factor if state["throttled"] else 1)

    return replace(machine.arm(name, seconds), throttled=lambda: state["throttled"])


def test_rounds_of_a_throttled_device_are_kept_and_do_not_count():
    machine = Machine()
    series = measure([machine.arm("a"), slowed(machine, "b", 0.5)], LONG, baseline="a", clock=machine.clock)
    b = series["b"]
    assert b.throttled_blocks
    assert not b.throttled
    assert len(b.rounds) == len(series["a"].rounds)
    assert max(b.judged.rounds) == pytest.approx(STEP_SECONDS)
    assert len(b.judged.rounds) == len(b.rounds) - len(b.throttled_blocks)
    assert b.speedup.estimate == pytest.approx(1.0)


def test_a_device_that_is_always_throttled_keeps_its_figures_and_says_so():
    machine = Machine()
    series = measure([machine.arm("a"), slowed(machine, "b", 1.0)], LONG, baseline="a", clock=machine.clock)
    assert series["b"].throttled
    assert series["b"].judged.rounds == tuple(series["b"].rounds)
    assert series["b"].speedup.estimate == pytest.approx(0.5)


def test_machines_that_agree_on_their_figures_run_the_same_rounds():
    def log(factor, agree):
        machine = Machine()
        plan = Plan(max_seconds=3.0, tolerance=1e-9)
        arms = [machine.arm("a", factor * STEP_SECONDS / 50), machine.arm("b", factor * STEP_SECONDS / 50)]
        measure(arms, plan, baseline="a", agree=agree, clock=machine.clock)
        return machine.log

    told = []
    slow = log(1.3, lambda mine: told.append(mine) or mine)
    figures = iter(told)
    assert log(1.0, lambda mine: next(figures)) == slow
    assert log(1.0, lambda mine: mine) != slow


def test_same_seed_same_order():
    def log(seed):
        machine = Machine()
        measure([machine.arm("a"), machine.arm("b")], LONG, baseline="a", clock=machine.clock, seed=seed)
        return machine.log

    assert log(1) == log(1)
    assert log(1) != log(2)

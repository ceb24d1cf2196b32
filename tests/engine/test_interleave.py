"""mpbench.engine.interleave on a simulated machine: interleaving, warm-up, stopping, and what they are worth."""

from dataclasses import replace

import pytest
from simulation import STEP_SECONDS, Machine

from mpbench.engine.interleave import (
    MAX_STEPS_PER_ROUND,
    MIN_BLOCKS,
    ROUND_SECONDS,
    WARMUP_WINDOW_ROUNDS,
    Arm,
    Plan,
    measure,
)
from mpbench.records.rounds import paired
from mpbench.stats.intervals import MIN_PAIRS, speedup_interval

RUNS = 100
LONG = Plan(max_seconds=30.0)


def drifting(seed):
    """A machine that slows by 20 % over about the time that the measurement takes."""
    return Machine(seed, drift=0.2, drift_seconds=10.0, noise=0.01, burst_share=0.05)


def interleaved(seed, factor):
    machine = drifting(seed)
    arms = [machine.arm("a"), machine.arm("b", STEP_SECONDS * factor)]
    return measure(arms, LONG, baseline="a", clock=machine.clock, seed=seed)["b"].interval


def one_after_the_other(seed, factor):
    machine = drifting(seed)
    a = measure([machine.arm("a")], LONG, clock=machine.clock, seed=seed)["a"].rounds
    b = measure([machine.arm("b", STEP_SECONDS * factor)], LONG, clock=machine.clock, seed=seed)["b"].rounds
    n = min(len(a), len(b))
    return speedup_interval(a[:n], b[:n], resamples=500)


def contains_one(interval):
    return interval.low <= 1 <= interval.high


def test_under_drift_a_step_against_itself_has_1_in_its_interval():
    assert sum(contains_one(interleaved(seed, 1.0)) for seed in range(RUNS)) >= 93


@pytest.mark.parametrize("factor", [1.05, 1 / 1.05])
def test_under_drift_a_difference_of_5_percent_is_found(factor):
    intervals = [interleaved(seed, factor) for seed in range(RUNS)]
    assert sum(not contains_one(i) and (i.estimate < 1) == (factor > 1) for i in intervals) >= 95


def test_one_after_the_other_the_same_drift_is_taken_for_a_difference():
    assert sum(contains_one(one_after_the_other(seed, 1.0)) for seed in range(RUNS)) < 93


def test_every_block_runs_every_arm_once_and_orders_vary():
    machine = Machine()
    names = ("a", "b", "c")
    measure([machine.arm(n) for n in names], LONG, baseline="a", clock=machine.clock)
    blocks = [tuple(n for n, _ in machine.log[i : i + 3]) for i in range(0, len(machine.log), 3)]
    assert all(sorted(block) == sorted(names) for block in blocks)
    assert len(set(blocks)) > 1


def test_quiet_arms_stop_after_the_second_look():
    machine = Machine()
    series = measure([machine.arm("a"), machine.arm("b", 2 * STEP_SECONDS)], LONG, baseline="a", clock=machine.clock)
    assert MIN_BLOCKS < len(series["b"].rounds) <= MIN_BLOCKS * 1.3
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
    assert len(series["a"].rounds) == MIN_PAIRS
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
    assert len(series["a"].rounds) > MIN_BLOCKS


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
    assert len(series["a"].rounds) > MIN_BLOCKS


def test_nothing_left_to_measure_ends_at_once():
    machine = Machine()
    series = measure([machine.arm("a", fails_at=0)], LONG, baseline="a", clock=machine.clock)
    assert series["a"].error is not None
    assert series["a"].rounds == []
    assert measure([], LONG) == {}


def test_each_arm_can_have_a_baseline_and_a_reference_of_its_own():
    machine = Machine()
    steps = {"a": 1.0, "b": 2.0, "a fast": 0.5, "b fast": 0.25}
    arms = [machine.arm(name, STEP_SECONDS * factor) for name, factor in steps.items()]
    bases, references = {"b": "a", "b fast": "a fast"}, {"a fast": "a", "b fast": "b"}
    series = measure(arms, LONG, baseline=bases, references=references, clock=machine.clock)
    speedups = {name: one.speedup and one.speedup.estimate for name, one in series.items()}
    assert speedups == {"a": None, "b": pytest.approx(0.5), "a fast": None, "b fast": pytest.approx(2.0)}
    over = {name: one.over_reference and one.over_reference.estimate for name, one in series.items()}
    assert over == {"a": None, "b": None, "a fast": pytest.approx(2.0), "b fast": pytest.approx(8.0)}
    assert not any(one.noisy for one in series.values())


def test_arms_that_could_not_be_built_are_nobodys_base_and_have_none():
    machine = Machine()
    series = measure(
        [machine.arm("a"), machine.arm("b fast")],
        LONG,
        baseline={"b": "a", "b fast": "a fast"},
        references={"a fast": "a", "b fast": "b"},
        clock=machine.clock,
    )
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

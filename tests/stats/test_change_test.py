"""mpbench.stats.change_test: what is said of one figure, against figures whose truth is known."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from mpbench.stats.change_test import Limits, Outcome, compare, is_unusual, level, mean_of
from mpbench.stats.run_spread import Spread, estimated_prior, spread

LIMITS = Limits(slower=0.03, faster=0.03, towards=1, least_sd=0.003, alpha=0.0005)


def levels(*means, noise=0.005, rounds=60, seed=0):
    rng = np.random.default_rng(seed)
    return [level(mean + rng.normal(0, noise, rounds)) for mean in means]


@pytest.mark.parametrize(
    ("shift", "kind"),
    [
        (0.0, Outcome.SAME),
        (0.06, Outcome.SLOWER),
        (-0.06, Outcome.FASTER),
        (0.01, Outcome.SAME),
        (-0.01, Outcome.SAME),
        (0.028, Outcome.UNSURE),
    ],
)
def test_kinds(shift, kind):
    new, *earlier = levels(1 + shift, 1, 1, 1, 1, 1)
    assert compare(new, earlier, LIMITS).outcome == kind


def test_a_figure_that_falls_is_slower_where_it_is_a_speedup():
    new, *earlier = levels(0.94, 1, 1, 1, 1, 1)
    found = compare(new, earlier, Limits(0.03, 0.03, -1, 0.003, 0.0005))
    assert found.outcome == Outcome.SLOWER
    assert found.change.low < math.expm1(-0.06) < found.change.high


def test_an_effect_below_the_threshold_is_no_change_however_sure():
    new, *earlier = levels(1.02, 1, 1, 1, 1, 1, noise=0.0001)
    found = compare(new, earlier, LIMITS)
    assert found.p < LIMITS.alpha
    assert found.outcome == Outcome.SAME


def test_runs_that_differ_much_are_no_evidence():
    new, *earlier = levels(1.06, 1, 1.05, 0.95, 1.03, 0.98)
    found = compare(new, earlier, LIMITS)
    assert found.outcome == Outcome.UNSURE
    assert found.advice.startswith("no number of rounds would settle it: runs differ by ")


def test_what_other_figures_of_the_kind_show_counts():
    new, *earlier = levels(1.06, 1, 1, 1, 1, 1)
    assert compare(new, earlier, LIMITS, usual=0.05**2).outcome == Outcome.UNSURE


def test_a_figure_that_wanders_within_runs_is_expected_to_differ_between_them():
    rng = np.random.default_rng(1)
    walks = [1 + np.repeat(rng.normal(0, 0.05, 5), 20) + rng.normal(0, 0.005, 100) for _ in range(3)]
    steady = [walk - np.repeat(walk.reshape(5, 20).mean(axis=1), 20) + 1 for walk in walks]
    new = level(steady[0] + 0.05)
    assert compare(new, [level(x) for x in steady[1:]], LIMITS).outcome == Outcome.SLOWER
    assert compare(level(walks[0] + 0.05), [level(x) for x in walks[1:]], LIMITS).outcome == Outcome.UNSURE


def test_one_earlier_run_is_weaker_evidence_than_three():
    new, *earlier = levels(1.05, 1, 1, 1)
    assert compare(new, earlier, LIMITS).p < compare(new, earlier[:1], LIMITS).p


def test_a_few_noisy_rounds_say_how_many_more_would_settle_it():
    earlier = levels(1, 1, 1, 1, 1)
    (new,) = levels(1.05, noise=0.06, rounds=20)
    found = compare(new, earlier, LIMITS)
    assert found.outcome == Outcome.UNSURE
    more = int(found.advice.split()[1])
    assert found.advice == f"about {more} more rounds would settle it (--mp-max-time)"
    assert 5 < more < 500


@pytest.mark.parametrize(
    ("earlier_runs", "rounds", "sd"), [(5, 40, 0.0), (5, 40, 0.02), (5, 8, 0.0), (1, 8, 0.0), (2, 40, 0.005)]
)
def test_without_a_change_false_alarms_are_rare(earlier_runs, rounds, sd):
    rng = np.random.default_rng(7)
    alarms = 0
    for _ in range(1000):
        runs = [level(rng.normal(0, sd) + rng.normal(0, 0.05, rounds)) for _ in range(earlier_runs + 1)]
        alarms += compare(runs[0], runs[1:], Limits(0.001, 0.001, 1, 0.003, 0.005)).outcome == Outcome.SLOWER
    # Nominally 5; where runs differ by more than is assumed, more.
    assert alarms <= (35 if sd == 0.02 else 15)


def test_degrees_of_freedom_are_those_of_what_survives_trimming():
    assert [level(np.arange(n, dtype=float)).degrees for n in (8, 10, 40)] == [5, 5, 23]


def test_several_runs_together_are_stronger_evidence_than_one():
    one, two, three, *earlier = levels(1.05, 1.06, 1.04, 1, 1.01, 0.99, 1.02, 1)
    assert mean_of([one]) == one
    together = mean_of([one, two, three])
    assert (together.runs, together.rounds) == (3, 180)
    assert together.mean == pytest.approx((one.mean + two.mean + three.mean) / 3)
    assert compare(together, earlier, LIMITS).p < compare(one, earlier, LIMITS).p


def test_own_variance_counts_by_itself_where_it_is_the_larger_and_nothing_else_is_known():
    rng = np.random.default_rng(4)
    alarms = 0
    for _ in range(4000):
        runs = [level(one + rng.normal(0, 0.001, 20)) for one in rng.normal(0, 0.03, 6)]
        alarms += compare(runs[0], runs[1:], Limits(0.001, 0.001, 1, 0.003, 0.001)).outcome == Outcome.SLOWER
    assert alarms <= 4 + 3 * 2  # nominally 4; shrunk with a weight of its own it was 40


def test_figures_that_differ_in_how_much_they_vary_are_not_averaged_out():
    new, *earlier = levels(1.05, 1, 1, 1, 1, 1)
    steady = estimated_prior([Spread(0.003**2, 4, 0.0)] * 20)
    some = estimated_prior([Spread(0.003**2, 4, 0.0)] * 15 + [Spread(0.03**2, 4, 0.0)] * 5)
    assert compare(new, earlier, LIMITS, steady).outcome == Outcome.SLOWER
    assert compare(new, earlier, LIMITS, some).outcome == Outcome.UNSURE
    again = mean_of([new] * 3)
    assert compare(again, earlier, LIMITS, some).spread == pytest.approx(
        compare(new, earlier, LIMITS, some).spread, 0.05
    )


def test_runs_with_memory_are_weaker_evidence():
    new, *earlier = levels(1.05, 1, 1.01, 0.99, 1.01, 1)
    own = spread([[(one.mean, one.error) for one in earlier]])
    alone = compare(new, earlier, LIMITS, own=own)
    assert compare(new, earlier, LIMITS, own=own.remembering(0.8), memory=0.8).p > alone.p


def test_unusual_shifts_are_those_beyond_what_runs_do():
    assert not is_unusual(0.02, [0.0, 0.01, -0.01, 0.005], 0.01, 0.05)
    assert is_unusual(0.08, [0.0, 0.01, -0.01, 0.005], 0.01, 0.05)
    assert not is_unusual(0.08, [0.0, 0.1, -0.1, 0.05], 0.01, 0.05)


@given(st.lists(st.floats(-0.2, 0.2), min_size=2, max_size=6), st.floats(-1, 1), st.integers(8, 50))
def test_only_differences_matter(means, by, rounds):
    new, *earlier = levels(*means, rounds=rounds)
    moved_new, *moved = levels(*(mean + by for mean in means), rounds=rounds)
    found, same = compare(new, earlier, LIMITS), compare(moved_new, moved, LIMITS)
    assert found.shift == pytest.approx(same.shift, abs=1e-9)
    assert found.p == pytest.approx(same.p, rel=1e-4, abs=1e-12)


@given(st.floats(-0.2, 0.2), st.integers(8, 60), st.integers(1, 6))
def test_slower_and_faster_mirror_each_other(shift, rounds, count):
    new, *earlier = levels(shift, *[0.0] * count, rounds=rounds)
    ahead = compare(new, earlier, LIMITS)
    back = compare(new, earlier, Limits(0.03, 0.03, -1, 0.003, 0.0005))
    mirror = {
        Outcome.SLOWER: Outcome.FASTER,
        Outcome.FASTER: Outcome.SLOWER,
        Outcome.SAME: Outcome.SAME,
        Outcome.UNSURE: Outcome.UNSURE,
    }
    assert back.outcome == mirror[ahead.outcome]


def test_with_many_rounds_and_runs_alike_it_is_students_test():
    new, *earlier = levels(0.004, 0, 0, noise=0.02, rounds=400)
    found = compare(new, earlier, Limits(0.001, 0.001, 1, 1e-9, 0.0005))
    assert found.p == pytest.approx(stats.norm.sf(abs(found.shift) / found.spread), rel=0.05)

"""mpbench.stats.run_spread: how much figures differ from run to run, against figures whose truth is known."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpbench.stats.run_spread import (
    Spread,
    centre,
    estimated_prior,
    mean_excess,
    memory_of,
    spread,
    variance_of_centre,
    variance_of_mean,
)

values = st.lists(st.floats(-10, 10), min_size=1, max_size=20)


def figures(rng, sds, runs=6, memory=0.0):
    """One spread each, of an AR(1) process without rounds' noise."""
    found = []
    for sd in sds:
        x = rng.normal(0, sd, runs)
        for i in range(1, runs):
            x[i] = memory * x[i - 1] + math.sqrt(1 - memory**2) * x[i]
        found.append(spread([[(one, 0.0) for one in x]]))
    return found


@given(values)
def test_a_spread_is_the_variance_of_the_means(means):
    found = spread([[(mean, 0.1) for mean in means]])
    assert found.degrees == len(means) - 1
    assert found.variance == pytest.approx(np.var(means, ddof=1) if len(means) > 1 else 0.0, abs=1e-9)
    assert found.excess == pytest.approx(found.variance - 0.01)


@given(values, values, st.floats(-100, 100))
def test_levels_are_no_spread(one, other, apart):
    moved = [[(mean, 0.0) for mean in one], [(mean + apart, 0.0) for mean in other]]
    same = [[(mean, 0.0) for mean in one], [(mean, 0.0) for mean in other]]
    assert spread(moved).variance == pytest.approx(spread(same).variance, abs=1e-6)
    assert spread(moved).degrees == len(one) + len(other) - 2


def test_a_far_excursion_counts_as_far_as_is_said():
    runs = [(0.0, 0.0)] * 9 + [(5.0, 0.0)]
    assert spread([runs], farthest=0.1).variance == pytest.approx(0.1**2 / 10)


def test_excess_is_the_variance_between_runs_alone():
    rng = np.random.default_rng(3)
    noisy = [
        spread([[(rng.normal(0, 0.02) + rng.normal(0, 0.01), 0.01) for _ in range(5)]]) for _ in range(400)
    ]  # fmt: skip
    assert mean_excess(noisy) == pytest.approx(0.02**2, rel=0.15)
    assert mean_excess([]) == mean_excess([Spread(0.0, 0, 0.01)]) == 0.0


def test_the_prior_finds_what_variances_were_drawn_from():
    rng = np.random.default_rng(5)
    degrees, variance = 6.0, 0.01**2
    sds = np.sqrt(variance * degrees / rng.chisquare(degrees, 2000))
    prior = estimated_prior(figures(rng, sds))
    assert prior.degrees == pytest.approx(degrees, rel=0.25)
    assert prior.variance == pytest.approx(variance, rel=0.1)


def test_figures_that_vary_alike_are_trusted_and_those_that_do_not_are_not():
    rng = np.random.default_rng(6)
    alike = estimated_prior(figures(rng, [0.01] * 24))
    assert alike.degrees > 30
    assert alike.variance == pytest.approx(0.01**2, rel=0.3)
    assert estimated_prior(figures(rng, [0.003] * 18 + [0.03] * 6)).degrees < 4
    assert estimated_prior(figures(rng, [0.01] * 4)) is None


def test_memory_is_seen_in_few_runs_of_many_figures_and_not_where_there_is_none():
    rng = np.random.default_rng(7)
    for runs, least in ((5, 0.2), (10, 0.5), (20, 0.65)):
        assert np.mean([memory_of(figures(rng, [0.01] * 24, runs, 0.8)) for _ in range(20)]) > least
        assert np.mean([memory_of(figures(rng, [0.01] * 24, runs)) for _ in range(20)]) < 0.06
    assert memory_of(figures(rng, [0.01] * 3, 20, 0.8)) == 0.0


def test_a_spread_of_runs_with_memory_is_what_they_differ_by_in_the_long_run():
    rng = np.random.default_rng(8)
    short = np.mean([one.variance for one in figures(rng, [0.01] * 2000, 10, 0.8)])
    long = np.mean([one.remembering(0.8).variance for one in figures(rng, [0.01] * 2000, 10, 0.8)])
    assert short < 0.7 * 0.01**2
    assert long == pytest.approx(0.01**2, rel=0.1)


@given(st.integers(1, 30), st.floats(0, 0.99))
def test_the_mean_of_runs_with_memory_is_between_one_run_and_independent_ones(runs, memory):
    assert 1 / runs - 1e-12 <= variance_of_mean(runs, memory) <= 1 + 1e-12
    assert variance_of_mean(runs, 0.0) == pytest.approx(1 / runs)


@given(values, st.floats(-10, 10))
def test_the_centre_moves_with_its_values(x, by):
    assert centre([one + by for one in x]) == pytest.approx(centre(x) + by, abs=1e-9)
    assert min(x) <= centre(x) <= max(x)


def test_the_centre_is_robust_and_nearly_as_good_as_the_mean():
    assert centre([0.0, 0.0, 0.0, 0.0, 100.0]) == 0.0
    assert centre([0.0, 0.0, 0.0, 1.0, 1.0]) == 0.5
    rng = np.random.default_rng(9)
    for n in (2, 5, 9):
        seen = np.var([centre(rng.normal(size=n)) for _ in range(4000)])
        assert seen == pytest.approx(variance_of_centre(n), rel=0.1)

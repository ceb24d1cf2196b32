"""mpbench.stats.intervals: properties that hold for any sample, and coverage where it can be simulated."""

import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats

from mpbench.stats.intervals import (
    MIN_PAIRS,
    Interval,
    mean_interval,
    simultaneous,
    speedup_interval,
    time_interval,
    trimmed_mean,
    wander,
)
from mpbench.stats.stationarity import STATIONARY_SHIFT, is_stationary

seconds = st.floats(1e-6, 1e3)
rounds = hnp.arrays(float, st.integers(MIN_PAIRS, 60), elements=seconds)


@given(hnp.arrays(float, st.integers(1, 40), elements=st.floats(-1e6, 1e6)))
def test_trimmed_mean_is_scipys(values):
    assert trimmed_mean(values) == pytest.approx(stats.trim_mean(values, 0.2), rel=1e-9, abs=1e-6)


@given(rounds)
def test_estimate_is_inside_its_interval(values):
    interval = time_interval(values)
    assert 0 < interval.low <= interval.estimate * (1 + 1e-9)
    assert interval.estimate <= interval.high * (1 + 1e-9)
    assert values.min() * (1 - 1e-9) <= interval.estimate <= values.max() * (1 + 1e-9)


@given(rounds, st.floats(0.01, 100))
def test_speedup_of_a_constant_factor_is_exact_whatever_the_machine_did(values, factor):
    interval = speedup_interval(values * factor, values)
    assert interval.estimate == pytest.approx(factor)
    assert interval.low == pytest.approx(factor)
    assert interval.high == pytest.approx(factor)


@given(rounds, st.randoms(use_true_random=False))
def test_speedup_is_symmetric(values, random):
    other = np.array(sorted(values, key=lambda _: random.random()))
    there, back = speedup_interval(values, other), speedup_interval(other, values)
    assert there.estimate == pytest.approx(1 / back.estimate)


def test_a_series_wanders_as_far_as_its_quarters_are_apart():
    noise = np.random.default_rng(3).normal(0, 0.001, 40)
    moved = wander(noise + 0.1 * (np.arange(40) >= 30))
    assert moved.p < 1e-4
    assert moved.reach == pytest.approx(0.1, abs=0.002)
    assert wander(noise).p > 0.05
    assert wander([1.0, 2.0, 3.0]).p == 1.0


@given(rounds)
def test_a_higher_confidence_gives_a_wider_interval_around_the_same_estimate(values):
    usual, joint = (speedup_interval(values, np.ones_like(values), level) for level in (0.95, simultaneous(3)))
    assert joint.estimate == usual.estimate
    assert joint.low <= usual.low
    assert usual.high <= joint.high


def test_simultaneous_confidence_divides_the_error_among_the_comparisons():
    assert simultaneous(1) == pytest.approx(0.95)
    assert simultaneous(5) == pytest.approx(0.99)


def test_a_fifth_of_the_blocks_hit_by_bursts_moves_the_speedup_little():
    rng = np.random.default_rng(0)
    base = np.exp(rng.normal(0, 0.01, 50))
    other = np.exp(rng.normal(0, 0.01, 50))
    other[::6] *= 10
    assert speedup_interval(base, other).estimate == pytest.approx(1.0, abs=0.01)


@pytest.mark.parametrize("n", [7, 10, 20, 50])
def test_interval_covers_the_true_mean_as_often_as_it_says(n):
    rng = np.random.default_rng(n)
    inside = 0
    for _ in range(400):
        interval = mean_interval(rng.normal(0, 1, n))
        inside += interval.low <= 0 <= interval.high
    # 400 trials at 95 %: 3 standard deviations are 3.3 points.
    assert inside / 400 >= 0.95 - 0.033


@pytest.mark.parametrize(
    ("values", "message"),
    [([1.0] * (MIN_PAIRS - 1), "at least"), ([1, 2, 3, 4, math.nan], "finite"), ([[1.0] * 5] * 2, "one dimension")],
)
def test_mean_interval_refuses(values, message):
    with pytest.raises(ValueError, match=message):
        mean_interval(values)


def test_speedup_refuses_unpaired_and_non_positive_times():
    with pytest.raises(ValueError, match="one length"):
        speedup_interval([1.0] * 6, [1.0] * 7)
    with pytest.raises(ValueError, match="positive"):
        speedup_interval([1.0] * 6, [1.0] * 5 + [0.0])


def test_overlap_and_half_width():
    a, b, c = Interval(1.0, 0.9, 1.1), Interval(1.15, 1.1, 1.2), Interval(2.0, 1.9, 2.1)
    assert a.overlaps(b)
    assert b.overlaps(a)
    assert not a.overlaps(c)
    assert not c.overlaps(a)
    assert c.relative_half_width == pytest.approx(0.05)


def test_stationary_tells_a_trend_from_noise():
    assert is_stationary([1.0] * 6)
    assert not is_stationary([10, 8, 6, 5, 4, 3])
    assert not is_stationary([1.5, 1.2, 1.1, 1.05, 1.02, 1.01])
    rng = np.random.default_rng(0)
    noisy = [is_stationary(list(np.exp(rng.normal(0, 0.1, 6)))) for _ in range(300)]
    assert np.mean(noisy) > 0.8


@given(st.floats(0.001, 0.5), st.integers(3, 10))
def test_a_steady_slope_is_stationary_only_while_it_is_small(slope, half):
    assume(abs(slope * half / STATIONARY_SHIFT - 1) > 1e-6)
    window = [math.exp(-slope * i) for i in range(2 * half)]
    assert is_stationary(window) == (slope * half < STATIONARY_SHIFT)


@pytest.mark.parametrize("window", [[1.0] * 5, [1.0] * 7, []])
def test_stationary_refuses(window):
    with pytest.raises(ValueError, match="even number"):
        is_stationary(window)

"""mpbench.stats.long_run: errors of means of dependent values, against what they are; what is slow."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.fft import dct
from scipy.signal import lfilter

from mpbench.stats.long_run import chance_of_slow, cosine_coefficients, mean_errors


def series(rng, n, memory, share=1.0):
    """Unit variance; that share of it with a memory."""
    fresh = rng.normal(0, np.sqrt(1 - memory**2), n)
    fresh[0] /= np.sqrt(1 - memory**2)
    return np.sqrt(share) * lfilter([1], [1, -memory], fresh) + np.sqrt(1 - share) * rng.normal(0, 1, n)


@given(st.lists(st.floats(-1e3, 1e3), min_size=5, max_size=60))
def test_cosine_coefficients_are_scipys(values):
    expected = dct(np.array(values), type=2, norm="ortho")[1:]
    assert cosine_coefficients(np.array(values)) == pytest.approx(expected, rel=1e-9, abs=1e-6)


@pytest.mark.parametrize(("memory", "share"), [(0.0, 1.0), (0.5, 1.0), (0.9, 1.0), (0.9, 0.5)])
@pytest.mark.parametrize("n", [60, 200])
def test_intervals_cover_the_mean_however_far_values_remember(memory, share, n):
    rng, inside = np.random.default_rng(7), 0
    for _ in range(300):
        x = series(rng, n, memory, share)
        inside += abs(x.mean()) <= max(error.half_width(0.95) for error in mean_errors(x, n - 1))
    assert inside / 300 >= 0.92


def test_independent_values_cost_little():
    rng = np.random.default_rng(8)
    widths = []
    for _ in range(200):
        errors = mean_errors(rng.normal(0, 1, 100), 99)
        widths.append(max(error.half_width(0.95) for error in errors) / errors[0].half_width(0.95))
    assert np.median(widths) < 1.5


@pytest.mark.parametrize("n", [5, 6, 10])
def test_a_short_series_is_not_held_against_memories_longer_than_it_shows(n):
    x = np.random.default_rng(n).normal(0, 1, n)
    errors = mean_errors(x, n - 1)
    assert max(error.half_width(0.95) for error in errors) < 3 * errors[0].half_width(0.95)


def test_a_series_without_spread_has_no_error():
    assert [error.error for error in mean_errors(np.ones(30), 29)] == [0.0]
    assert chance_of_slow(np.ones(30)) == 1.0


def test_a_slope_and_a_step_are_slow_and_independent_values_seldom_are():
    rng = np.random.default_rng(9)
    noise = rng.normal(0, 1, 40)
    assert chance_of_slow(noise + np.linspace(0, 5, 40)) < 0.01
    assert chance_of_slow(noise + 5 * (np.arange(40) > 25)) < 0.01
    assert np.mean([chance_of_slow(rng.normal(0, 1, 40)) < 0.05 for _ in range(500)]) == pytest.approx(0.05, abs=0.03)

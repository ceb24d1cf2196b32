"""mpbench.numerics.limits: what a dtype can hold."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpbench.numerics.limits import has_narrow_range, keeps_fewer_bits, limits_of


@pytest.mark.parametrize(
    ("dtype", "exponent_bits", "fraction_bits"),
    [("float16", 5, 10), ("bfloat16", 8, 7), ("float32", 8, 23), ("float64", 11, 52)],
)
def test_limits_follow_from_the_bits_of_a_format(dtype, exponent_bits, fraction_bits):
    limits, bias = limits_of(dtype), 2 ** (exponent_bits - 1) - 1
    assert limits.epsilon == 2.0**-fraction_bits
    assert limits.largest == (2 - limits.epsilon) * 2.0**bias
    assert limits.smallest_normal == 2.0 ** (1 - bias)
    assert limits.smallest == 2.0 ** (1 - bias - fraction_bits)


def test_the_numbers_beyond_the_limits_are_not_representable():
    limits = limits_of("float16")
    assert np.isfinite(np.float16(limits.largest))
    with np.errstate(over="ignore"):
        assert np.isinf(np.float16(limits.largest * (1 + limits.epsilon)))
    assert np.float16(limits.smallest) > 0
    assert np.float16(limits.smallest / 2) == 0


@pytest.mark.parametrize(
    ("dtype", "narrow", "fewer_bits"),
    [("float16", True, True), ("bfloat16", False, True), ("float32", False, False), ("float64", False, False)],
)
def test_what_half_precision_lacks(dtype, narrow, fewer_bits):
    assert (has_narrow_range(dtype), keeps_fewer_bits(dtype)) == (narrow, fewer_bits)


def test_other_dtypes_are_refused_by_name():
    with pytest.raises(ValueError, match="unknown dtype 'int8': valid are float16, bfloat16, float32, float64"):
        limits_of("int8")


@given(st.floats(1e-30, 65504), st.integers(-10, 10))
def test_headroom_counts_powers_of_two(magnitude, exponent):
    limits = limits_of("float16")
    room = limits.headroom_log2(magnitude)
    assert magnitude * 2.0**room == pytest.approx(65504)
    assert limits.headroom_log2(magnitude * 2.0**exponent) == pytest.approx(room - exponent, abs=1e-9)


def test_headroom_at_the_ends():
    limits = limits_of("float16")
    assert limits.headroom_log2(65504) == 0
    assert limits.headroom_log2(131008) == pytest.approx(-1)
    assert limits.headroom_log2(0) == math.inf
    assert limits.headroom_log2(math.inf) == limits.headroom_log2(math.nan) == -math.inf

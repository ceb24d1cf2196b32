"""The numbers that a dtype can hold, and how far a value is from the largest of them. Pure; imports no TensorFlow."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import ml_dtypes


@dataclass(frozen=True)
class Limits:
    """A binary floating-point format (IEEE 754-2019, 3.3 and 3.4; bfloat16 as in ml_dtypes).

    Attributes:
        dtype: its name.
        largest: finite number, float16's is 65504.
        smallest_normal: with full precision; float16's is 2**-14.
        smallest: above 0, subnormal; float16's is 2**-24. Half of it and less is rounded to 0 (ties to even).
        epsilon: distance from 1 to the next larger number; float16's is 2**-10.
    """

    dtype: str
    largest: float
    smallest_normal: float
    smallest: float
    epsilon: float

    def headroom_log2(self, magnitude: float) -> float:
        """Powers of two between a magnitude and the largest number.

        Args:
            magnitude: 0 or more; infinite or NaN where something was not finite.

        Returns:
            log2(largest / magnitude): 0 at the limit, negative beyond it, infinite for 0, -infinite where the
            magnitude is not finite.
        """
        if not math.isfinite(magnitude):
            return -math.inf
        return math.inf if magnitude == 0 else math.log2(self.largest) - math.log2(magnitude)


@functools.cache
def limits_of(dtype: str) -> Limits:
    """The limits of float16, bfloat16, float32 or float64, from `ml_dtypes.finfo`, which asks NumPy for NumPy's own.

    Raises:
        ValueError: another dtype.
    """
    if dtype not in ("float16", "bfloat16", "float32", "float64"):
        raise ValueError(f"unknown dtype {dtype!r}: valid are float16, bfloat16, float32, float64")
    info = ml_dtypes.finfo(dtype)  # type: ignore[no-untyped-call]
    return Limits(dtype, float(info.max), float(info.tiny), float(info.smallest_subnormal), float(info.eps))


def has_narrow_range(dtype: str) -> bool:
    """Whether a dtype's exponents are fewer than float32's 8 bits: of those used here, float16's 5 bits."""
    return limits_of(dtype).largest < limits_of("bfloat16").largest


def keeps_fewer_bits(dtype: str) -> bool:
    """Whether a dtype rounds what float32 holds exactly."""
    return limits_of(dtype).epsilon > limits_of("float32").epsilon

"""Whether a series of rounds has settled: a pure function."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from mpbench.stats.intervals import MAD_TO_SD, positive

STATIONARY_SHIFT = 0.02
"""Relative difference of a window's halves that counts as none, however quiet the series is."""

STATIONARY_NOISE_FACTOR = 2.0
"""Halves of three rounds of pure noise differ by more than this many standard deviations in 4 % of windows."""


def is_stationary(window: Sequence[float]) -> bool:
    """Whether a window of rounds shows no trend: its two halves have the same median within noise.

    The noise is taken from successive differences (von Neumann 1941), which a trend hardly inflates; a standard
    deviation of the window itself would grow with the very warm-up it is to detect.

    Args:
        window: seconds per step, an even number of at least 6 rounds, oldest first, positive.

    Raises:
        ValueError: an odd number of rounds or fewer than 6.
    """
    n = len(window)
    if n < 6 or n % 2:
        raise ValueError(f"stationarity needs an even number of at least 6 rounds, got {n}")
    logs = np.log(positive(window))
    shift = abs(float(np.median(logs[n // 2 :]) - np.median(logs[: n // 2])))
    noise = MAD_TO_SD * float(np.median(np.abs(np.diff(logs)))) / math.sqrt(2)
    return shift <= max(STATIONARY_SHIFT, STATIONARY_NOISE_FACTOR * noise)

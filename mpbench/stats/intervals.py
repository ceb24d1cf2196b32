"""Trimmed means and their intervals, of times and of paired ratios; how far a series has moved."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from mpbench.stats.long_run import LEAST_TO_WANDER, Floats, chance_of_slow, mean_errors

TRIM_FRACTION = 0.2
"""Share cut from each end of a sample before its mean is taken (Wilcox's usual choice)."""

MIN_PAIRS = 5
"""With fewer pairs nothing would be left to estimate the spread from after trimming."""

CONFIDENCE = 0.95
WIDEST_FACTOR = 1e6
"""Between an interval's middle and its ends: one as wide as this says nothing, and a wider one need not be computed."""

MAD_TO_SD = 1.4826
"""A normal sample's standard deviation over its median absolute deviation."""

PARTS = 4
"""That a series is cut into to see how far it has moved."""


@dataclass(frozen=True)
class Wander:
    """What a series does slowly.

    Attributes:
        p: probability that independent values vary as much slowly.
        reach: largest less smallest trimmed mean of its quarters, in the series' unit.
    """

    p: float
    reach: float


@dataclass(frozen=True)
class Interval:
    """A point estimate between the limits of its confidence interval; no unit when it is a ratio."""

    estimate: float
    low: float
    high: float

    @property
    def relative_half_width(self) -> float:
        """Half the interval's width over its estimate: 0.01 reads "within 1 %"."""
        return (self.high - self.low) / 2 / self.estimate

    def overlaps(self, other: Interval) -> bool:
        return self.low <= other.high and other.low <= self.high


def trimmed_mean(values: ArrayLike) -> float:
    """Mean without the smallest and largest values, TRIM_FRACTION of them (rounded down) each: `scipy.stats.trim_mean`.

    Args:
        values: shape (n,), n at least 1.
    """
    ordered = np.sort(np.asarray(values, dtype=float))
    cut = int(TRIM_FRACTION * ordered.size)
    return float(ordered[cut : ordered.size - cut].mean())


def mean_interval(values: ArrayLike, confidence: float = CONFIDENCE) -> Interval:
    """Trimmed mean of a series with its confidence interval, by Student's t.

    Its standard error is that of the mean of the values' influences on it, which are the winsorised values over the
    share that is kept (Tukey and McLaughlin 1963; Huber 1981), and allows for values that depend on those before them:
    see `long_run.mean_errors`. As many degrees of freedom as values survive trimming, less one.

    Args:
        values: shape (n,), n at least MIN_PAIRS, finite, in any unit, in the order measured.
        confidence: nominal coverage, between 0 and 1.

    Raises:
        ValueError: too few values, or one that is not finite.
    """
    sample = np.asarray(values, dtype=float)
    n = sample.size
    if sample.ndim != 1 or n < MIN_PAIRS:
        raise ValueError(f"an interval needs at least {MIN_PAIRS} values in one dimension, got shape {sample.shape}")
    if not np.isfinite(sample).all():
        raise ValueError("an interval needs finite values, got NaN or infinity")
    kept = n - 2 * int(TRIM_FRACTION * n)
    mean = trimmed_mean(sample)
    small = math.sqrt((n - 1) * kept / (n * (kept - 1)))  # Yuen's correction (1974): 10 % for 5 values, 1 % for 40
    reach = max(error.half_width(confidence) for error in mean_errors(small * influences(sample), kept - 1))
    return Interval(mean, mean - reach, mean + reach)


def influences(values: ArrayLike) -> Floats:
    """What each value adds to the trimmed mean, beyond it: winsorised, centred, over the share that is kept.

    Args:
        values: shape (n,), n at least 2, finite, in any unit.
    """
    sample = np.asarray(values, dtype=float)
    moved = winsorised(sample)
    kept = sample.size - 2 * int(TRIM_FRACTION * sample.size)
    return np.asarray((moved - moved.mean()) * sample.size / kept)


def wander(values: ArrayLike) -> Wander:
    """Whether, and how far, a series moves slowly; not at all where it is too short to tell (LEAST_TO_WANDER).

    Asked of the values' ranks: a burst is one high rank among many, while a level that holds for a tenth of the series
    only, and that trimming would remove, still is slow.

    Args:
        values: shape (n,), finite, in the order measured.
    """
    sample = np.asarray(values, dtype=float)
    if sample.size < LEAST_TO_WANDER:
        return Wander(1.0, 0.0)
    means = [trimmed_mean(part) for part in np.array_split(sample, PARTS)]
    return Wander(chance_of_slow(_ranks(sample)), max(means) - min(means))


def trimmed_mean_error(values: ArrayLike) -> tuple[float, float]:
    """Trimmed mean of a sample and its standard error from the winsorised variance (Tukey and McLaughlin 1963).

    Args:
        values: shape (n,), n at least 2, finite, in any unit. Assumed independent.
    """
    sample = np.asarray(values, dtype=float)
    return trimmed_mean(sample), float(influences(sample).std(ddof=1)) / math.sqrt(sample.size)


def time_interval(seconds: ArrayLike) -> Interval:
    """Typical time of a round with its interval: `mean_interval` of the logarithms, in the given unit."""
    return _exp(mean_interval(np.log(positive(seconds))))


def speedup_interval(baseline: ArrayLike, candidate: ArrayLike, confidence: float = CONFIDENCE) -> Interval:
    """Speedup of a candidate over its baseline, with its interval.

    The two series are paired: `baseline[i]` and `candidate[i]` were measured in the same block, close together,
    so that whatever slowed the machine then slowed both and cancels in their ratio. The estimate is the
    exponential of the trimmed mean of log(baseline / candidate); that makes it symmetric (the speedup of a over
    b is the inverse of that of b over a), and up to a fifth of the blocks at either end may be hit by a burst
    without moving it.

    Args:
        baseline: seconds per step, shape (n,), positive, in the order measured.
        candidate: seconds per step, shape (n,), positive.
        confidence: nominal coverage, between 0 and 1.

    Returns:
        Above 1 where the candidate is faster.

    Raises:
        ValueError: lengths differ, fewer than MIN_PAIRS pairs, or a time that is not positive and finite.
    """
    return _exp(mean_interval(log_ratios(baseline, candidate), confidence))


def log_ratios(baseline: ArrayLike, candidate: ArrayLike) -> Floats:
    """Logarithms of the ratios of paired times; arguments and errors as in `speedup_interval`."""
    a, b = positive(baseline), positive(candidate)
    if a.shape != b.shape:
        raise ValueError(f"paired series must have one length, got {a.size} and {b.size} rounds")
    return np.asarray(np.log(a / b))


def simultaneous(comparisons: int, confidence: float = CONFIDENCE) -> float:
    """Confidence that each of so many intervals must have for all of them to hold together (Bonferroni)."""
    return 1 - (1 - confidence) / max(comparisons, 1)


def _ranks(sample: Floats) -> Floats:
    """From 1; equal values share the mean of theirs, as in `scipy.stats.rankdata`."""
    _, where, counts = np.unique(sample, return_inverse=True, return_counts=True)
    return np.asarray((np.cumsum(counts) - (counts - 1) / 2)[where])


def winsorised(sample: Floats) -> Floats:
    """The values that a trimmed mean leaves out moved to the nearest that it keeps: `scipy.stats.mstats.winsorize`."""
    ordered = np.sort(sample)
    cut = int(TRIM_FRACTION * sample.size)
    return np.asarray(np.clip(sample, ordered[cut], ordered[sample.size - cut - 1]))


def positive(values: ArrayLike) -> Floats:
    array = np.asarray(values, dtype=float)
    if not (np.isfinite(array).all() and (array > 0).all()):
        raise ValueError("times must be positive and finite")
    return array


def _exp(logs: Interval) -> Interval:
    reach = min(logs.high - logs.estimate, math.log(WIDEST_FACTOR))
    return Interval(math.exp(logs.estimate), math.exp(logs.estimate - reach), math.exp(logs.estimate + reach))

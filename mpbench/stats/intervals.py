"""Statistics as pure functions: intervals of paired ratios, spread, stationarity.

Only numpy and scipy are imported, no clock is read and every random number is drawn from a seed that the
caller passes, so that the same rounds always give the same verdict.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mpbench.stats import special

TRIM_FRACTION = 0.2
"""Share cut from each end of a sample before its mean is taken (Wilcox's usual choice)."""

MIN_PAIRS = 5
"""With fewer pairs nothing would be left to estimate the spread from after trimming."""

DEFAULT_RESAMPLES = 2000
CONFIDENCE = 0.95
MAD_TO_SD = 1.4826
"""A normal sample's standard deviation over its median absolute deviation."""

Floats = NDArray[np.floating[Any]]


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


def trimmed_mean(values: ArrayLike, fraction: float = TRIM_FRACTION) -> Floats:
    """Mean over the last axis without its smallest and largest values.

    Args:
        values: shape (..., n), n at least 1.
        fraction: share of the n values cut from *each* end, rounded down to whole values.

    Returns:
        Shape (...,).
    """
    ordered = np.sort(np.asarray(values, dtype=float), axis=-1)
    n = ordered.shape[-1]
    cut = int(fraction * n)
    return np.asarray(ordered[..., cut : n - cut].mean(axis=-1))


def mean_interval(
    values: ArrayLike,
    *,
    confidence: float = CONFIDENCE,
    resamples: int = DEFAULT_RESAMPLES,
    seed: int = 0,
) -> Interval:
    """Trimmed mean with its expanded percentile bootstrap interval.

    The percentile bootstrap is too narrow for small samples. Its levels are therefore moved outwards so that,
    for a normal sample, it agrees with Student's t (Hesterberg 2015, "What teachers should know about the
    bootstrap", section 5.3), with as many degrees of freedom as values survive trimming, less one (Tukey and
    McLaughlin 1963).

    Args:
        values: shape (n,), n at least MIN_PAIRS, finite; in any unit. Assumed exchangeable.
        confidence: nominal coverage, between 0 and 1.
        resamples: number of bootstrap samples.
        seed: of the bootstrap's random numbers.

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
    t = special.stdtrit(kept - 1, 0.5 + confidence / 2)
    tail = float(special.ndtr(-t * math.sqrt(n / (n - 1))))
    picks = np.random.default_rng(seed).integers(0, n, size=(resamples, n))
    low, high = np.quantile(trimmed_mean(sample[picks]), [tail, 1 - tail])
    return Interval(float(trimmed_mean(sample)), float(low), float(high))


def trimmed_mean_error(values: ArrayLike) -> tuple[float, float]:
    """Trimmed mean of a sample and its standard error from the winsorised variance (Tukey and McLaughlin 1963).

    Args:
        values: shape (n,), n at least 2, finite, in any unit. Assumed independent.
    """
    ordered = np.sort(np.asarray(values, dtype=float))
    n = ordered.size
    cut = int(TRIM_FRACTION * n)
    winsorised = np.clip(ordered, ordered[cut], ordered[n - cut - 1])
    error = float(winsorised.std(ddof=1)) / ((n - 2 * cut) / n * math.sqrt(n))
    return float(trimmed_mean(ordered)), error


def time_interval(seconds: ArrayLike, *, resamples: int = DEFAULT_RESAMPLES, seed: int = 0) -> Interval:
    """Typical time of a round with its 95 % interval: `mean_interval` of the logarithms, in the given unit."""
    return _exp(mean_interval(np.log(positive(seconds)), resamples=resamples, seed=seed))


def speedup_interval(
    baseline: ArrayLike, candidate: ArrayLike, *, resamples: int = DEFAULT_RESAMPLES, seed: int = 0
) -> Interval:
    """Speedup of a candidate over its baseline, with its 95 % interval.

    The two series are paired: `baseline[i]` and `candidate[i]` were measured in the same block, close together,
    so that whatever slowed the machine then slowed both and cancels in their ratio. The estimate is the
    exponential of the trimmed mean of log(baseline / candidate); that makes it symmetric (the speedup of a over
    b is the inverse of that of b over a), and up to a fifth of the blocks at either end may be hit by a burst
    without moving it.

    Args:
        baseline: seconds per step, shape (n,), positive.
        candidate: seconds per step, shape (n,), positive.
        resamples: number of bootstrap samples of whole blocks.
        seed: of the bootstrap's random numbers.

    Returns:
        Above 1 where the candidate is faster.

    Raises:
        ValueError: lengths differ, fewer than MIN_PAIRS pairs, or a time that is not positive and finite.
    """
    a, b = positive(baseline), positive(candidate)
    if a.shape != b.shape:
        raise ValueError(f"paired series must have one length, got {a.size} and {b.size} rounds")
    return _exp(mean_interval(np.log(a / b), resamples=resamples, seed=seed))


def positive(values: ArrayLike) -> Floats:
    array = np.asarray(values, dtype=float)
    if not (np.isfinite(array).all() and (array > 0).all()):
        raise ValueError("times must be positive and finite")
    return array


def _exp(logs: Interval) -> Interval:
    return Interval(math.exp(logs.estimate), math.exp(logs.low), math.exp(logs.high))

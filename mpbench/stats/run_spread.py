"""How much one figure differs from run to run: from its own runs, and from what other figures of its kind do.

Pure functions over logarithms.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from mpbench.stats import special

MIN_ALIKE = 5
"""Figures of a kind from which on a prior is estimated from them."""

LEAST_SHARE = 1e-5
"""Of the median variance, below which a variance counts as so much: limma's guard against figures that do not vary."""


@dataclass(frozen=True)
class Spread:
    """Variance between runs of one figure.

    Attributes:
        variance: of the runs' levels, that of their rounds included.
        degrees: of freedom; 0 where nothing is known.
        rounds: the part of it that the rounds alone make, on average.
    """

    variance: float
    degrees: int
    rounds: float

    @property
    def excess(self) -> float:
        """Beyond what the rounds make; negative by chance."""
        return self.variance - self.rounds


@dataclass(frozen=True)
class Prior:
    """What the figures of one kind say about the variance of any one of them.

    Attributes:
        variance, degrees: of the scaled inverse chi-squared distribution that the variances look drawn from.
        mean_excess: arithmetic mean of the variances beyond that of the rounds, at least 0.
    """

    variance: float
    degrees: float
    mean_excess: float


def spread(stretches: Sequence[Sequence[tuple[float, float]]], farthest: float = math.inf) -> Spread:
    """Of runs at one or several levels.

    Args:
        stretches: for each level the runs that were at it, as (mean, error) of their rounds in logarithms.
        farthest: deviations from the middle of their stretch count as so much at most.
    """
    squares, degrees, errors = 0.0, 0, list[float]()
    for runs in stretches:
        errors += [error**2 for _, error in runs]
        if len(runs) > 1:
            means = np.array([mean for mean, _ in runs])
            middle = float(np.median(means))
            kept = np.clip(means, middle - farthest, middle + farthest)
            squares += float(((kept - kept.mean()) ** 2).sum())
            degrees += len(runs) - 1
    rounds = sum(errors) / len(errors) if errors else 0.0
    return Spread(squares / degrees if degrees else 0.0, degrees, rounds)


def estimated_prior(spreads: Sequence[Spread]) -> Prior | None:
    """The prior of a kind of figures; None where fewer than MIN_ALIKE of them have a variance.

    Moments of the logarithms, as limma's fitFDist (Smyth 2004, "Linear models and empirical Bayes methods for assessing
    differential expression in microarray experiments", SAGMB 3:3). Where figures differ in how much they vary, `degrees`
    is small, and a figure that has varied little so far is not trusted to go on so; where they vary alike it is large,
    at most all degrees of freedom there are.
    """
    known = [one for one in spreads if one.degrees]
    if len(known) < MIN_ALIKE:
        return None
    variances = np.array([one.variance for one in known])
    half = np.array([one.degrees for one in known]) / 2
    variances = np.maximum(variances, max(LEAST_SHARE * float(np.median(variances)), 1e-18))
    logs = np.log(variances) - special.psi(half) + np.log(half)
    beyond = float(np.var(logs, ddof=1) - np.mean(special.polygamma(1, half)))
    total = float(2 * half.sum())
    degrees = min(2 * _inverse_trigamma(beyond), total) if beyond > 0 else total
    middle = float(np.exp(logs.mean() + special.psi(degrees / 2) - math.log(degrees / 2)))
    return Prior(middle, degrees, mean_excess(known))


def mean_excess(spreads: Sequence[Spread]) -> float:
    """Arithmetic mean of what runs differ by beyond their rounds, weighted by degrees of freedom, at least 0."""
    total = sum(one.degrees for one in spreads)
    return max(sum(one.excess * one.degrees for one in spreads) / total, 0.0) if total else 0.0


def centre(values: ArrayLike) -> float:
    """Hodges and Lehmann's estimate: the median of the means of all pairs, each value with itself among them.

    As good as the mean where values are normal (its variance is pi / 3 of it) and untouched by one wild value of five:
    of values at two levels it is between them, where the median jumps from one to the other.
    """
    x = np.asarray(values, dtype=float)
    if x.size < 3:
        return float(x.mean())
    first, second = np.triu_indices(x.size)
    return float(np.median((x[first] + x[second]) / 2))


def variance_of_centre(count: int) -> float:
    """Of `centre`, in units of one value's."""
    return (1.0 if count < 3 else math.pi / 3) / count


def _inverse_trigamma(x: float) -> float:
    """By Newton's method, which from this side converges from below (Smyth 2004, appendix)."""
    if x > 1e7:
        return 1 / math.sqrt(x)
    if x < 1e-6:
        return 1 / x
    y = 0.5 + 1 / x
    for _ in range(50):
        value = float(special.polygamma(1, y))
        step = value * (1 - value / x) / float(special.polygamma(2, y))
        y += step
        if -step / y < 1e-8:
            break
    return y

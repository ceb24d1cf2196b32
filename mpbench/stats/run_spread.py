"""How much one figure differs from run to run: from its own runs, and from what other figures of its kind do.

Pure functions over logarithms.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from statistics import median

import numpy as np
import scipy

MIN_ALIKE = 5
"""Figures of a kind from which on a prior is estimated from them."""

ALIKE_DEGREES = 4.0
"""Of a prior from which on figures vary alike: below, a figure's sd may well be three times that of the next."""

LEAST_SHARE = 1e-5
"""Of the median variance, below which a variance counts as so much: limma's guard against figures that do not vary."""


MAX_MEMORY = 0.95
MEMORY_DEGREES = 10.0
"""An error of 0.1 in a memory of 0.9 is one of 40 % in the variance: as much as some ten degrees of freedom leave."""


@dataclass(frozen=True)
class Spread:
    """Variance between runs of one figure.

    Attributes:
        variance: of the runs' levels, that of their rounds included.
        degrees: of freedom; 0 where nothing is known.
        rounds: the part of it that the rounds alone make, on average.
        lagged, squares: sums of products of neighbouring deviations, and of their squares.
        runs: how many runs a level has, on average.
    """

    variance: float
    degrees: float
    rounds: float
    lagged: float = 0.0
    squares: float = 0.0
    runs: float = 1.0

    @property
    def excess(self) -> float:
        """Beyond what the rounds make; negative by chance."""
        return self.variance - self.rounds

    def remembering(self, memory: float) -> Spread:
        """The same where runs are an AR(1) process: they then differ less from their mean than they do in the long run,
        and say less of how much (Priestley 1981, "Spectral Analysis and Time Series", 5.3)."""
        if not memory or not self.degrees:
            return self
        seen = 1 - variance_of_mean(round(self.runs), memory)
        seen *= self.runs / (self.runs - 1)
        excess = self.variance / min(max(seen, 1 - MAX_MEMORY), 1.0)
        return replace(self, variance=excess, degrees=self.degrees * (1 - memory**2) / (1 + memory**2))


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
        stretches: for each level the runs that were at it, oldest first, as (mean, error) of their rounds' logarithms.
        farthest: deviations from the middle of their stretch count as so much at most.
    """
    squares, lagged, degrees, errors, lengths = 0.0, 0.0, 0, list[float](), list[int]()
    for runs in stretches:
        errors += [error**2 for _, error in runs]
        if len(runs) > 1:
            middle = median(mean for mean, _ in runs)
            kept = [min(max(mean, middle - farthest), middle + farthest) for mean, _ in runs]
            at = sum(kept) / len(kept)
            off = [one - at for one in kept]
            squares += sum(one * one for one in off)
            lagged += sum(one * other for one, other in pairwise(off))
            degrees += len(runs) - 1
            lengths.append(len(runs))
    rounds = sum(errors) / len(errors) if errors else 0.0
    if not degrees:
        return Spread(0.0, 0, rounds)
    return Spread(squares / degrees, degrees, rounds, lagged, squares, sum(lengths) / len(lengths))


def memory_of(spreads: Sequence[Spread]) -> float:
    """Correlation of neighbouring runs that the figures of a kind show together, from 0 to MAX_MEMORY.

    Corrected for the mean that deviations are taken from (Marriott and Pope 1954, Biometrika 41), less a standard
    error: runs without memory shall seldom seem to have one.
    """
    known = [one for one in spreads if one.runs > 3 and one.squares > 0]
    if len(known) < MIN_ALIKE:
        return 0.0
    runs = sum(one.runs for one in known) / len(known)
    # Each figure counts alike, however much it varies.
    raw = sum(one.lagged / one.squares for one in known) / len(known) - 1 / math.sqrt(len(known) * runs)
    return min(max((raw + 1 / runs) / (1 - 3 / runs), 0.0), MAX_MEMORY)


def variance_of_mean(runs: int, memory: float) -> float:
    """Of the mean of neighbouring runs of an AR(1) process, in units of one run's."""
    return (runs + 2 * sum((runs - lag) * memory**lag for lag in range(1, runs))) / runs**2


def estimated_prior(spreads: Sequence[Spread], memory: float = 0.0) -> Prior | None:
    """The prior of a kind of figures; None where fewer than MIN_ALIKE of them have a variance.

    Moments of the logarithms, as limma's fitFDist (Smyth 2004, "Linear models and empirical Bayes methods for assessing
    differential expression in microarray experiments", SAGMB 3:3). Where figures differ in how much they vary,
    `degrees` is small, and a figure that has varied little so far is not trusted to go on so; where they vary alike it
    is large, at most all degrees of freedom there are, or MEMORY_DEGREES over the memory of the runs, an estimate too.
    """
    known = [one for one in spreads if one.degrees]
    if len(known) < MIN_ALIKE:
        return None
    variances = np.array([one.variance for one in known])
    half = np.array([one.degrees for one in known]) / 2
    variances = np.maximum(variances, max(LEAST_SHARE * float(np.median(variances)), 1e-18))
    logs = np.log(variances) - scipy.special.psi(half) + np.log(half)
    beyond = float(np.var(logs, ddof=1) - np.mean(scipy.special.polygamma(1, half)))
    total = float(2 * half.sum())
    degrees = min(2 * _inverse_trigamma(beyond), total) if beyond > 0 else total
    degrees = min(degrees, MEMORY_DEGREES / memory) if memory else degrees
    middle = float(np.exp(logs.mean() + scipy.special.psi(degrees / 2) - math.log(degrees / 2)))
    return Prior(middle, degrees, mean_excess(known))


def vary_alike(prior: Prior | None) -> bool:
    """Whether the figures of a kind are known to vary about as much as each other."""
    return prior is not None and prior.degrees >= ALIKE_DEGREES


def mean_excess(spreads: Sequence[Spread]) -> float:
    """Arithmetic mean of what runs differ by beyond their rounds, weighted by degrees of freedom, at least 0."""
    total = sum(one.degrees for one in spreads)
    return max(sum(one.excess * one.degrees for one in spreads) / total, 0.0) if total else 0.0


def centre(values: Sequence[float]) -> float:
    """Hodges and Lehmann's estimate: the median of the means of all pairs, each value with itself among them.

    As good as the mean where values are normal (its variance is pi / 3 of it) and untouched by one wild value of five:
    of values at two levels it is between them, where the median jumps from one to the other.
    """
    x = list(values)
    if len(x) < 3:
        return sum(x) / len(x)
    return median((x[i] + x[j]) / 2 for i in range(len(x)) for j in range(i + 1))


def variance_of_centre(count: int) -> float:
    """Of `centre`, in units of one value's."""
    return (1.0 if count < 3 else math.pi / 3) / count


def _inverse_trigamma(x: float) -> float:
    """By Newton's method, which from this side converges from below (Smyth 2004, appendix); scipy has no inverse."""
    if x > 1e7:
        return 1 / math.sqrt(x)
    if x < 1e-6:
        return 1 / x
    y = 0.5 + 1 / x
    for _ in range(50):
        value = float(scipy.special.polygamma(1, y))
        step = value * (1 - value / x) / float(scipy.special.polygamma(2, y))
        y += step
        if -step / y < 1e-8:
            break
    return y

"""What follows from two models' answers to the same images: McNemar's test, the difference, equivalence, power.

Pure functions over the 2x2 contingency table of paired right and wrong answers; numpy and scipy only.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy
from numpy.typing import ArrayLike, NDArray

from mpbench.stats.intervals import CONFIDENCE, Interval

POWER = 0.8
"""Usual probability of seeing a difference that `detectable_difference` is to have."""

EXACT_BELOW = 25
"""Discordant images below which a score is not normal enough: without any, 268 images would do for a margin of one
point at 5 %, although 0.99^268 is 6.8 %."""

NUISANCE_POINTS = 40
"""At which shares of an unknown that decides nothing the largest probability is sought."""

NEGLIGIBLE = 1e-12
"""Probability below which a number of discordant pairs is left out of a sum."""


@dataclass(frozen=True)
class Contingency:
    """Images by who answered them rightly."""

    both_right: int
    first_only: int
    second_only: int
    both_wrong: int

    def __post_init__(self) -> None:
        if min(self.both_right, self.first_only, self.second_only, self.both_wrong) < 0 or self.n < 1:
            raise ValueError(f"a contingency table needs counts of 0 or more and at least one image, got {self}")

    @property
    def n(self) -> int:
        return self.both_right + self.first_only + self.second_only + self.both_wrong

    @property
    def discordant(self) -> int:
        """Images that exactly one of the two got right: the only ones that tell the two apart."""
        return self.first_only + self.second_only

    @property
    def first_accuracy(self) -> float:
        return (self.both_right + self.first_only) / self.n

    @property
    def second_accuracy(self) -> float:
        return (self.both_right + self.second_only) / self.n


def contingency(truth: ArrayLike, first: ArrayLike, second: ArrayLike) -> Contingency:
    """Pair two models' answers image by image.

    Args:
        truth: class numbers, shape (n,).
        first, second: answered class numbers, shape (n,), in the same order.

    Raises:
        ValueError: shapes differ or there are no images.
    """
    right, one, two = np.asarray(truth), np.asarray(first), np.asarray(second)
    if right.ndim != 1 or not right.shape == one.shape == two.shape:
        raise ValueError(f"paired answers must have one shape (n,), got {right.shape}, {one.shape}, {two.shape}")
    a, b = one == right, two == right
    return Contingency(int((a & b).sum()), int((a & ~b).sum()), int((~a & b).sum()), int((~a & ~b).sum()))


def mcnemar_exact(table: Contingency) -> float:
    """Two-sided p of McNemar's exact test.

    Under the null hypothesis each discordant image falls to either side with probability 1/2, independently of the
    others; p is twice the smaller binomial tail, at most 1 (McNemar 1947, Psychometrika 12). Conservative. No
    discordant image gives 1.
    """
    return min(1.0, 2 * _smaller_tail(table))


def mcnemar_midp(table: Contingency) -> float:
    """Two-sided mid-p: the exact test with half the probability of what was observed.

    Assumes what `mcnemar_exact` does; less conservative, and its errors stay near the nominal level (Fagerland,
    Lydersen and Laake 2013, BMC Medical Research Methodology 13:91).
    """
    n, k = table.discordant, min(table.first_only, table.second_only)
    observed = scipy.special.bdtr(k, n, 0.5) - (scipy.special.bdtr(k - 1, n, 0.5) if k else 0.0)
    return float(min(1.0, 2 * _smaller_tail(table) - observed))


def mcnemar_chi2(table: Contingency) -> float:
    """p of McNemar's chi-squared test with continuity correction, one degree of freedom.

    The statistic is (|b - c| - 1)^2 / (b + c) with the discordant counts b and c (Edwards 1948, Psychometrika 13), as
    statsmodels has it, also where b = c. An approximation that needs some 25 discordant images; none gives 1.
    """
    if not table.discordant:
        return 1.0
    statistic = (abs(table.first_only - table.second_only) - 1) ** 2 / table.discordant
    return float(scipy.special.chdtrc(1, statistic))


def difference_interval(table: Contingency, confidence: float = CONFIDENCE) -> Interval:
    """Second accuracy less first, with Tango's score interval for paired proportions.

    Holds its level where the usual Wald interval does not, and has a width even without a discordant image (Tango
    1998, Statistics in Medicine 17:891-908). Assumes images drawn independently.

    Returns:
        Fractions between -1 and 1, not percentage points.
    """
    estimate = (table.second_only - table.first_only) / table.n
    z = float(scipy.special.ndtri(0.5 + confidence / 2))

    def limit(towards: int) -> float:
        def excess(difference: float) -> float:
            return _score(table, difference) + towards * z

        if excess(towards) * excess(estimate) > 0:
            return float(towards)
        return float(scipy.optimize.brentq(excess, estimate, towards))

    return Interval(estimate, limit(-1), limit(1))


def is_difference_interval(table: Contingency, low: float, high: float, tolerance: float) -> bool:
    """Whether two limits are those of `difference_interval` at 95 %, without the search for them.

    Args:
        low, high: fractions between -1 and 1.
        tolerance: of the score at either, in standard deviations.
    """
    z = float(scipy.special.ndtri(0.5 + CONFIDENCE / 2))
    estimate = (table.second_only - table.first_only) / table.n
    if not low <= estimate <= high:
        return False
    scores = {low: _score(table, low) - z, high: _score(table, high) + z}
    return all(abs(excess) <= tolerance or abs(limit) == 1 for limit, excess in scores.items())


def equivalence_p(table: Contingency, margin: float) -> float:
    """p of the two one-sided tests that the accuracies differ by `margin` or more, in either direction.

    Small where they are shown to be equivalent within the margin. The larger p of the two tests with Tango's score
    statistic (Schuirmann 1987 for the procedure; Tango 1998 for the statistic): normal where there are EXACT_BELOW
    discordant images or more, exact below. Assumes images drawn independently.

    Args:
        margin: a fraction above 0 and below 1: 0.01 is one percentage point.

    Raises:
        ValueError: a margin outside that range.
    """
    if not 0 < margin < 1:
        raise ValueError(f"a margin must lie between 0 and 1, got {margin}")
    if table.discordant < EXACT_BELOW:
        other = Contingency(table.both_right, table.second_only, table.first_only, table.both_wrong)
        return max(_exact_p(table, margin), _exact_p(other, margin))
    return float(max(scipy.special.ndtr(-_score(table, -margin)), scipy.special.ndtr(_score(table, margin))))


def equivalence_can_be_shown(n: int, margin: float, alpha: float) -> bool:
    """Whether `equivalence_p` comes down to `alpha` for any n answers: it does for identical ones if for any."""
    return equivalence_p(Contingency(n, 0, 0, 0), margin) <= alpha


def mcnemar_power(n: int, discordant_share: float, difference: float, alpha: float) -> float:
    """Probability that the exact test rejects at `alpha` (p at most alpha) when the accuracies differ by so much.

    Summed over the number of discordant images, which is binomial, and for each over the binomial split between the
    two sides (Duffy 1984, Biometrics 40:1005-1015).

    Args:
        n: images.
        discordant_share: expected share of discordant images; raised to `difference`, which it cannot be below.
        difference: of the two accuracies, a fraction from 0 to 1.
        alpha: level of the test.
    """
    if difference >= discordant_share:
        discordant_share, towards_one_side = difference, 1.0
    else:
        towards_one_side = (1 + difference / discordant_share) / 2
    if discordant_share == 0:
        return 0.0
    # Beyond ten standard deviations nothing is likely: a bound on the work, whatever n.
    mean, reach = n * discordant_share, 10 * math.sqrt(n * discordant_share) + 10
    counts = np.arange(max(0, math.floor(mean - reach)), min(n, math.ceil(mean + reach)) + 1)
    weights = _binomial_pmf(counts, n, discordant_share)
    likely = weights > NEGLIGIBLE
    counts, weights = counts[likely], weights[likely]
    critical = _critical_counts(counts, alpha)
    rejects = critical >= 0
    counts, weights, critical = counts[rejects], weights[rejects], critical[rejects]
    low = scipy.special.bdtr(critical, counts, towards_one_side)
    high = scipy.special.bdtr(critical, counts, 1 - towards_one_side)
    return float(np.sum(weights * (low + high)))


def detectable_difference(n: int, discordant: int, alpha: float) -> float:
    """Smallest difference of two accuracies that the exact test would have found with probability POWER.

    Assumes that as many images are discordant as were observed, or, for differences beyond that, that all of them
    fall to one side.

    Args:
        n: images.
        discordant: images that exactly one of the two got right.
        alpha: level of the test.

    Returns:
        A fraction, to 1e-6; infinity where the sample is too small to reject anything.
    """

    def shortfall(difference: float) -> float:
        return mcnemar_power(n, discordant / n, difference, alpha) - POWER

    if shortfall(1.0) < 0:
        return math.inf
    if shortfall(0.0) >= 0:  # an alpha near 1
        return 0.0
    return float(scipy.optimize.brentq(shortfall, 0.0, 1.0, xtol=1e-6))


def is_detectable_difference(table: Contingency, difference: float | None, alpha: float, tolerance: float) -> bool:
    """Whether a difference is `detectable_difference`'s, without the search for it; None stands for infinity.

    Args:
        tolerance: of the power to see it, a probability.
    """

    def power(of: float) -> float:
        return mcnemar_power(table.n, table.discordant / table.n, of, alpha)

    if difference is None:
        return power(1.0) < POWER + tolerance
    return abs(power(difference) - POWER) <= tolerance or (difference == 0 and power(0.0) >= POWER)


def majority_p(right: int, n: int, majority_share: float) -> float:
    """One-sided p of the exact binomial test that a model knows more than which class is the most frequent.

    Args:
        right: images answered rightly, of `n`.
        majority_share: share of the most frequent class: the accuracy of always answering it.
    """
    return float(scipy.special.bdtrc(right - 1, n, majority_share)) if right else 1.0


def _smaller_tail(table: Contingency) -> float:
    return float(scipy.special.bdtr(min(table.first_only, table.second_only), table.discordant, 0.5))


def _exact_p(table: Contingency, margin: float) -> float:
    """That the first is right more often by `margin` or more: exact, unconditional.

    The probability of tables whose score speaks as much against it, the largest over the share of images that only the
    second has right, which is unknown (Suissa and Shuster 1991, Biometrics 47:361-372, for the procedure).
    """
    n, observed = table.n, _score_of(np.array(table.second_only), np.array(table.first_only), table.n, -margin)
    firsts = np.arange(n + 1)
    # For each number of images that only the first has right, how many only the second must have: the score rises.
    low, high = np.zeros(n + 1), (n - firsts + 1).astype(float)
    while (low < high).any():
        middle = np.floor((low + high) / 2)
        enough = _score_of(middle, firsts, n, -margin) >= observed - 1e-9
        high, low = np.where(enough, middle, high), np.where(enough, low, middle + 1)
    most = (1 - margin) / 2
    shares = np.concatenate([np.linspace(0, most, NUISANCE_POINTS), np.geomspace(0.01 / n, most, NUISANCE_POINTS)])
    return float(min(1.0, max(_tail(low, firsts, n, share, share + margin) for share in shares)))


def _tail(least: NDArray[Any], firsts: NDArray[Any], n: int, second_share: float, first_share: float) -> float:
    """Probability of at least so many images that only the second has right, summed over those of the first."""
    weights = _binomial_pmf(firsts, n, first_share)
    likely = weights > NEGLIGIBLE
    weights, least, left = weights[likely], least[likely], (n - firsts)[likely]
    share = min(second_share / (1 - first_share), 1.0)
    above = np.where(least <= 0, 1.0, scipy.special.bdtrc(np.maximum(least - 1, 0), left, share))
    return float(np.sum(weights * np.where(least > left, 0.0, above)))


def _score(table: Contingency, difference: float) -> float:
    """Tango's statistic for the hypothesis of that difference, second less first: standard normal under it."""
    return float(_score_of(np.array(table.second_only), np.array(table.first_only), table.n, difference))


def _score_of(x: NDArray[Any], y: NDArray[Any], n: int, difference: float) -> NDArray[Any]:
    """The same of many tables: x images that only the second has right, y that only the first has."""
    # Maximum likelihood of the share of `y` where the share of `x` is larger by `difference`.
    b = -x - y + (2 * n - x + y) * difference
    c = -y * difference * (1 - difference)
    share = (np.sqrt(np.maximum(0.0, b * b - 8 * n * c)) - b) / (4 * n)
    variance = n * (2 * share + difference * (1 - difference))
    distance = x - y - n * difference
    with np.errstate(divide="ignore", invalid="ignore"):
        scores = distance / np.sqrt(np.maximum(variance, 0.0))
    return np.where(np.isnan(scores), 0.0, scores)


def _critical_counts(discordant: NDArray[Any], alpha: float) -> NDArray[np.int64]:
    """Largest smaller-side count at which the exact test rejects, for each number of discordant images; -1: never."""
    m = discordant.astype(np.int64)
    guess = np.floor(np.nan_to_num(scipy.special.bdtrik(alpha / 2, m.astype(float), 0.5), nan=-1.0))
    critical = np.maximum(guess, -1.0) + 1  # the inverse may be one off: step down from above
    for _ in range(3):
        rejects = 2 * np.where(critical < 0, 0.0, scipy.special.bdtr(np.maximum(critical, 0), m, 0.5)) <= alpha
        critical = np.where(rejects, critical, critical - 1)
    return np.asarray(np.maximum(critical, -1), dtype=np.int64)


def _binomial_pmf(k: NDArray[Any], n: int, p: float) -> NDArray[np.float64]:
    if p >= 1:
        return np.where(k == n, 1.0, 0.0)
    choose = scipy.special.gammaln(n + 1) - scipy.special.gammaln(k + 1) - scipy.special.gammaln(n - k + 1)
    return np.asarray(np.exp(choose + scipy.special.xlogy(k, p) + scipy.special.xlog1py(n - k, -p)), dtype=np.float64)

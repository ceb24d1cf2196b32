"""How far the mean of a series may be off whose values depend on each other, and whether the series wanders.

Rounds that follow each other resemble each other: a clock that has just switched stays there for seconds. Pure
functions over a series in the order measured, by its cosine coefficients: what varies slowly is in the first ones.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import scipy
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.floating[Any]]

MEMORIES = (0.3, 0.5, 0.65, 0.8, 0.88, 0.93, 0.97)
"""Correlations of one round with the next that are tried for the part of the noise that has a memory."""

SHARES = (0.1, 0.2, 0.35, 0.5, 0.7, 0.85, 1.0)
"""Of the variance, for that part; the rest is independent."""

SUPPORT = 0.5
"""Log-likelihoods within this much of the largest are as good: one standard error, were it a parabola."""

SHORT_SERIES = 20
MEMORY_SHARE = 0.25
"""Of a series shorter than SHORT_SERIES no more than this share can be the memory: it does not show a longer one, and
allowing for whatever it does not show would leave no interval at all."""

LOW_COEFFICIENTS = 3
"""Cosine coefficients that tell what is slow: up to one and a half waves over the whole series."""

LEAST_TO_WANDER = 2 * LOW_COEFFICIENTS + 2
"""Values from which on more is known of what is fast than of what is slow."""

LOW_LEVEL = 0.2
"""Where chance gives the low coefficients their size in a smaller share of series, they speak for themselves."""


@dataclass(frozen=True)
class MeanError:
    """Standard error of a mean, in the series' unit, and its degrees of freedom."""

    error: float
    degrees: float

    def half_width(self, confidence: float) -> float:
        """Of the two-sided interval by Student's t."""
        return float(scipy.special.stdtrit(self.degrees, 0.5 + confidence / 2)) * self.error


def mean_errors(values: ArrayLike, degrees: float) -> list[MeanError]:
    """Standard errors of the mean of a series; the one that gives the widest interval is to be used.

    Three answers that hold for different kinds of noise:

    - as if values were independent;
    - as if they were the sum of independent noise and of noise with a memory (autoregressive of order one), by
      Whittle's likelihood (1953) of the cosine coefficients: the largest variance of the mean among the memories and
      shares that the series supports, with as many degrees of freedom as the likeliest leaves independent values;
    - from the first cosine coefficients alone (Müller and Watson 2008; Lazarus, Lewis, Stock and Watson 2018), where
      they are larger than the others: whatever is slow, trend or steps, is in them.

    Args:
        values: shape (n,), n at least 5, finite, in the order measured.
        degrees: of freedom that independent values have.
    """
    x = np.asarray(values, dtype=float)
    n = x.size
    power = cosine_coefficients(x) ** 2
    found = [MeanError(math.sqrt(float(x.var(ddof=1)) / n), degrees)]
    if not power.any():
        return found
    shapes, logs, factors = _noises(n)
    scale = (power / shapes).mean(axis=1)
    likelihood = -(logs + power.size * np.log(scale)) / 2
    likeliest = int(likelihood.argmax())
    variance = float((scale * factors)[likelihood >= likelihood[likeliest] - SUPPORT].max())
    independent = (degrees + 1) / float(factors[likeliest])
    found.append(MeanError(math.sqrt(variance / n), max(independent - 1, 1.5)))
    if n >= LEAST_TO_WANDER and _chance_of_low(power) < LOW_LEVEL:
        found.append(MeanError(math.sqrt(float(power[:LOW_COEFFICIENTS].mean()) / n), LOW_COEFFICIENTS))
    return found


def chance_of_slow(values: ArrayLike) -> float:
    """Probability that independent values vary as much as a series does over one and a half waves or slower.

    Args:
        values: shape (n,), n at least LEAST_TO_WANDER, finite, in the order measured.
    """
    return _chance_of_low(cosine_coefficients(np.asarray(values, dtype=float)) ** 2)


def cosine_coefficients(values: Floats) -> Floats:
    """Of the orthonormal cosine transform (type II) without the first, the mean; shape (n - 1,).

    Those of independent values are independent, with the values' variance. `scipy.fft.dct` gives the same but for
    rounding: by it figures of earlier runs would not come out the same to the last digit.
    """
    n = values.size
    centred = values - values.mean()
    both = np.fft.rfft(np.concatenate([centred, centred[::-1]]))[1:n]
    turned = both * np.exp(-0.5j * np.pi * np.arange(1, n) / n)
    return np.asarray(turned.real / math.sqrt(2 * n))


def _chance_of_low(power: Floats) -> float:
    """By an F test of the low coefficients against the others."""
    low, high = power[:LOW_COEFFICIENTS], power[LOW_COEFFICIENTS:]
    if not high.any():
        return 0.0 if low.any() else 1.0
    return float(scipy.special.fdtrc(low.size, high.size, low.mean() / high.mean()))


@lru_cache(maxsize=64)
def _noises(n: int) -> tuple[Floats, Floats, Floats]:
    """The kinds of noise that a series of n values is held against, all with unit variance.

    Returns:
        Their spectra at the frequencies of the cosine coefficients, shape (kinds, n - 1); the sums of the spectra's
        logarithms; and the variance of the mean of n values over that of independent ones. The first has no memory.
    """
    frequencies = np.pi * np.arange(1, n) / n
    spectra, factors = [np.ones(n - 1)], [1.0]
    longest = MEMORY_SHARE * n if n < SHORT_SERIES else math.inf
    for memory in MEMORIES:
        if (1 + memory) / (1 - memory) > longest:
            break
        spectrum = (1 - memory**2) / (1 - 2 * memory * np.cos(frequencies) + memory**2)
        # Of a mean of n values, not of ever so many: the sum of the first n autocorrelations.
        factor = (1 + memory) / (1 - memory) - 2 * memory * (1 - memory**n) / (n * (1 - memory) ** 2)
        for share in SHARES:
            spectra.append(1 - share + share * spectrum)
            factors.append(1 - share + share * factor)
    shapes = np.array(spectra)
    return shapes, np.log(shapes).sum(axis=1), np.array(factors)

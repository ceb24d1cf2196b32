"""Where a series of figures, one a run, has moved to another level for good: pure functions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from mpbench.stats import special
from mpbench.stats.intervals import MAD_TO_SD, Floats

MIN_SIZE = 5
"""Runs that must be near a level: four outliers in a row are no step."""

LEVEL = 0.1
"""Nominal probability of a false step in a whole series. Simulated: 1 % at 60 runs and 4 % at 10, since Bonferroni's
bound takes neighbouring places for independent and the biweight cost is less than the squared one."""

LEAST_NOISE = 0.005
"""Relative standard deviation of a run's figure that is assumed where less is seen: a few runs may agree by chance."""

BIWEIGHT = 3.0
"""Standard deviations beyond which a deviation costs no more: Fearnhead and Rigaill's choice."""

CLIP = 2.0
"""Standard deviations at which differences are clipped before their variance is taken."""

CLIPPED_VARIANCE = 0.7737
"""Variance of a standard normal variable clipped at CLIP."""

DEGREES_PER_RUN = 0.6
"""Degrees of freedom of the noise's estimate for each run: differences of neighbours say less than deviations do."""

MAX_AUTOCORRELATION = 0.9
GRID = 10
"""Levels tried per standard deviation."""


@dataclass(frozen=True)
class Step:
    """A lasting step in a series.

    Attributes:
        index: of the first value at the new level.
        before, after: the levels, in the values' unit.
        gain: by how much the step improves the fit beyond its penalty, in variances of the noise.
    """

    index: int
    before: float
    after: float
    gain: float

    @property
    def change(self) -> float:
        """0.05: five per cent more than before."""
        return self.after / self.before - 1


def change_points(
    values: ArrayLike, *, min_size: int = MIN_SIZE, level: float = LEVEL, least_noise: float = LEAST_NOISE
) -> list[Step]:
    """The lasting steps in a series.

    Optimal partitioning of the logarithms (the recursion of Killick, Fearnhead and Eckley 2012, "Optimal detection of
    changepoints with a linear computational cost", JASA 107) with the biweight cost of Fearnhead and Rigaill (2019,
    "Changepoint detection in the presence of outliers", JASA 114): the sum of squared deviations in noise variances,
    each cut at BIWEIGHT squared. A deviation is thus either part of a level or costs a constant, and an outlier however
    large buys no step. Each step costs a penalty that grows with the logarithm of the number of runs, as BIC's does:
    Bonferroni's bound at `level` over the places where a step may be, from F's distribution since the noise is an
    estimate. The noise comes from successive differences, which a step does not widen; where the residuals of a first
    fit are correlated, the penalty is multiplied by the ratio of their long-run to their marginal variance (Lavielle
    and Moulines 2000), so that slow noise makes few steps.

    Assumes levels with stationary, roughly log-normal noise of one size around them, and outliers in few of the runs.
    A ramp is shown as one or several steps. Noise that stays at a level for longer than `min_size` runs cannot be told
    from a step.

    Args:
        values: one a run, oldest first, positive, in any unit.
        min_size: runs that must be near a level, at least 2.
        level: nominal probability of a false step, between 0 and 1.
        least_noise: relative standard deviation, positive.

    Returns:
        In order of their index; none where there are fewer than twice `min_size` values.

    Raises:
        ValueError: a value that is not positive and finite, or more than one dimension.
    """
    series = np.asarray(values, dtype=float)
    if series.ndim != 1 or not (np.isfinite(series) & (series > 0)).all():
        raise ValueError("steps are sought in one row of positive, finite values")
    n = series.size
    if n < 2 * min_size:
        return []
    x = np.log(series)
    noise = max(_noise(x), least_noise)
    places = n - 2 * min_size + 1
    penalty = float(special.fdtri(1, DEGREES_PER_RUN * (n - 1), 1 - level / places))
    starts = _lasting(x, noise, penalty, min_size)
    if starts:
        r = _autocorrelation(x, starts, noise)
        if r > 0:
            # Differences of correlated neighbours are too small for the noise that they come from.
            noise /= math.sqrt(1 - r)
            penalty *= (1 + r) / (1 - r)
            starts = _lasting(x, noise, penalty, min_size)
    return _steps(x, starts, noise, penalty)


def _noise(x: Floats) -> float:
    """Standard deviation of independent noise around levels, from successive differences, outliers clipped."""
    differences = np.abs(np.diff(x))
    rough = MAD_TO_SD * float(np.median(differences))
    clipped = np.minimum(differences, CLIP * rough)
    return math.sqrt(float(np.mean(clipped**2)) / CLIPPED_VARIANCE / 2)


def _lasting(x: Floats, noise: float, penalty: float, min_size: int) -> list[int]:
    """Where the levels of the cheapest partition begin, but for the first; each is near `min_size` values at least.

    A few equal outliers and one ordinary value may make a segment that is long enough. Their level lasts no longer for
    that: they are left out, and the rest is partitioned anew.
    """
    kept = np.arange(x.size)
    while kept.size >= 2 * min_size:
        starts = _partition(x[kept], noise, penalty, min_size)
        near = [part[np.abs(x[part] - _fit(x[part], noise)[0]) < BIWEIGHT * noise] for part in np.split(kept, starts)]
        thin = [part for part in near if part.size < min_size]
        if not thin:
            return [int(kept[start]) for start in starts]
        kept = np.setdiff1d(kept, np.concatenate(thin))
    return []


def _partition(x: Floats, noise: float, penalty: float, min_size: int) -> list[int]:
    """Where the segments of the cheapest partition begin, but for the first.

    The cost of the best partition of the first t values is kept for every level that the last one may have, on a grid:
    one pass, and no cost of a segment has to be minimised.
    """
    n, levels = x.size, _grid(x, noise)
    costs = _cost(x[:, None] - levels, noise)
    sums = np.vstack([np.zeros(levels.size), np.cumsum(costs, axis=0)])
    current = sums[min_size].copy()
    began = np.zeros(levels.size, dtype=int)
    cheapest, last_start = np.full(n + 1, math.inf), np.zeros(n + 1, dtype=int)
    cheapest[min_size] = current.min()
    for t in range(min_size + 1, n + 1):
        current += costs[t - 1]
        start = t - min_size
        stepped = cheapest[start] + penalty + sums[t] - sums[start]
        better = stepped < current
        current[better], began[better] = stepped[better], start
        best = int(current.argmin())
        cheapest[t], last_start[t] = current[best], began[best]
    starts = []
    start = int(last_start[n])
    while start:
        starts.append(start)
        start = int(last_start[start])
    return starts[::-1]


def _grid(x: Floats, noise: float) -> Floats:
    """Levels to try: all within a standard deviation of a value; those between distant values would fit none."""
    around = np.round(x / noise * GRID)[:, None] + np.arange(-GRID, GRID + 1)
    return np.asarray(np.unique(around) * (noise / GRID))


def _cost(deviations: Floats, noise: float) -> Floats:
    return np.asarray(np.minimum((deviations / noise) ** 2, BIWEIGHT**2))


def _autocorrelation(x: Floats, starts: Sequence[int], noise: float) -> float:
    """Of neighbouring residuals; zero where half a standard error of none would explain it."""
    parts = np.split(x, list(starts))
    residuals = np.concatenate([part - np.median(part) for part in parts])
    residuals = np.clip(residuals, -BIWEIGHT * noise, BIWEIGHT * noise)
    r = float((residuals[1:] * residuals[:-1]).sum() / max(float((residuals**2).sum()), noise**2))
    # Residuals from fitted levels look less correlated than they are (Marriott and Pope 1954).
    r += (1 + 3 * max(r, 0.0)) * len(parts) / x.size
    return min(max(r - 0.5 / math.sqrt(x.size), 0.0), MAX_AUTOCORRELATION)


def _steps(x: Floats, starts: Sequence[int], noise: float, penalty: float) -> list[Step]:
    ends = [0, *starts, x.size]
    steps = []
    for first, start, end in zip(ends, starts, ends[2:], strict=False):
        (before, cost_before), (after, cost_after) = _fit(x[first:start], noise), _fit(x[start:end], noise)
        gain = _fit(x[first:end], noise)[1] - cost_before - cost_after - penalty
        steps.append(Step(start, math.exp(before), math.exp(after), gain))
    return steps


def _fit(x: Floats, noise: float) -> tuple[float, float]:
    """The level of a segment, the mean of those that are near it, and the segment's cost."""
    levels = _grid(x, noise)
    rough = levels[_cost(x[:, None] - levels, noise).sum(axis=0).argmin()]
    level = float(x[np.abs(x - rough) < BIWEIGHT * noise].mean())
    return level, float(_cost(x - level, noise).sum())

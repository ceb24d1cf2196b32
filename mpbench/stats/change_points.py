"""Where a series of figures, one a run, has moved to another level for good: pure functions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy
from numpy.typing import ArrayLike

from mpbench.stats.intervals import MAD_TO_SD
from mpbench.stats.long_run import Floats

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
MEMORIES = np.arange(0.0, 0.96, 0.01)
LAGS = 4
"""Over which the autocorrelation is sought: no level is shorter than that."""

FAR = 4.0
"""Standard deviations of independent noise at which differences over several runs are clipped."""

CAUTION = 0.25
"""Added to an autocorrelation, over the square root of the runs: the levels that it is seen in were chosen to fit."""

ROUNDS_OF_FITTING = 5
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


def change_points(values: ArrayLike) -> list[Step]:
    """The lasting steps in a series.

    Optimal partitioning of the logarithms (the recursion of Killick, Fearnhead and Eckley 2012, "Optimal detection of
    changepoints with a linear computational cost", JASA 107) with the biweight cost of Fearnhead and Rigaill (2019,
    "Changepoint detection in the presence of outliers", JASA 114): the sum of squared deviations in noise variances,
    each cut at BIWEIGHT squared. A deviation is thus either part of a level or costs a constant, and an outlier however
    large buys no step. Each step costs a penalty that grows with the logarithm of the number of runs, as BIC's does:
    Bonferroni's bound at LEVEL over the places where a step may be, from F's distribution since the noise is an
    estimate. The noise comes from successive differences, which a step does not widen. Where a fit has steps, noise and
    autocorrelation are sought again within its levels, excursions as large as its steps included, and the penalty
    is multiplied by the ratio of long-run to marginal variance (Lavielle and Moulines 2000), until nothing changes:
    slow noise, and a history that often moves as far and back, make few steps.

    Assumes levels with stationary, roughly log-normal noise of one size around them, and outliers in few of the runs.
    A ramp is shown as one or several steps. Noise that stays at a level for longer than MIN_SIZE runs cannot be told
    from a step.

    Args:
        values: one a run, oldest first, positive, in any unit.

    Returns:
        In order of their index; none where there are fewer than twice MIN_SIZE values.

    Raises:
        ValueError: a value that is not positive and finite, or more than one dimension.
    """
    series = np.asarray(values, dtype=float)
    if series.ndim != 1 or not (np.isfinite(series) & (series > 0)).all():
        raise ValueError("steps are sought in one row of positive, finite values")
    n = series.size
    if n < 2 * MIN_SIZE:
        return []
    x = np.log(series)
    noise = max(_noise(x), LEAST_NOISE)
    places = n - 2 * MIN_SIZE + 1
    penalty = float(scipy.special.fdtri(1, DEGREES_PER_RUN * (n - 1), 1 - LEVEL / places))
    starts, scale, asked = _lasting(x, noise, penalty), noise, penalty
    for _ in range(ROUNDS_OF_FITTING):
        if not starts:
            return []
        around, r = _around(x, starts, noise)
        # Differences of correlated neighbours are too small for the noise that they come from.
        scale, asked = around / math.sqrt(1 - r), penalty * (1 + r) / (1 - r)
        before, starts = starts, _lasting(x, scale, asked)
        if starts == before:
            break
    return _steps(x, starts, scale, asked)


def _noise(x: Floats) -> float:
    """Standard deviation of independent noise around levels, from successive differences, outliers clipped."""
    differences = np.abs(np.diff(x))
    rough = MAD_TO_SD * float(np.median(differences))
    clipped = np.minimum(differences, CLIP * rough)
    return math.sqrt(float(np.mean(clipped**2)) / CLIPPED_VARIANCE / 2)


def _lasting(x: Floats, noise: float, penalty: float) -> list[int]:
    """Where the levels of the cheapest partition begin, but for the first; each is near `MIN_SIZE` values at least.

    A few equal outliers and one ordinary value may make a segment that is long enough. Their level lasts no longer for
    that: they are left out, and the rest is partitioned anew.
    """
    kept = np.arange(x.size)
    while kept.size >= 2 * MIN_SIZE:
        starts = _partition(x[kept], noise, penalty)
        near = [part[np.abs(x[part] - _fit(x[part], noise)[0]) < BIWEIGHT * noise] for part in np.split(kept, starts)]
        thin = [part for part in near if part.size < MIN_SIZE]
        if not thin:
            return [int(kept[start]) for start in starts]
        kept = np.setdiff1d(kept, np.concatenate(thin))
    return []


def _partition(x: Floats, noise: float, penalty: float) -> list[int]:
    """Where the segments of the cheapest partition begin, but for the first.

    The cost of the best partition of the first t values is kept for every level that the last one may have, on a grid:
    one pass, and no cost of a segment has to be minimised.
    """
    n, levels = x.size, _grid(x, noise)
    costs = _cost(x[:, None] - levels, noise)
    sums = np.vstack([np.zeros(levels.size), np.cumsum(costs, axis=0)])
    current = sums[MIN_SIZE].copy()
    began = np.zeros(levels.size, dtype=int)
    cheapest, last_start = np.full(n + 1, math.inf), np.zeros(n + 1, dtype=int)
    cheapest[MIN_SIZE] = current.min()
    for t in range(MIN_SIZE + 1, n + 1):
        current += costs[t - 1]
        start = t - MIN_SIZE
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


def _around(x: Floats, starts: Sequence[int], noise: float) -> tuple[float, float]:
    """Noise around levels that begin there, an AR(1) process: its standard deviation as if runs were independent, and
    the autocorrelation r of neighbours.

    From how differences grow with the lag k, as (1 - r^k) / (1 - r): unlike deviations from fitted levels, differences
    do not look less correlated than they are where a level is fitted to few runs. Only those within a level count, in
    full where they are no larger than the largest step: where a history often moves as far and back, a step is none.
    """
    parts = np.split(x, list(starts))
    middles = [float(np.median(part)) for part in parts]
    far = max(FAR * noise, float(np.abs(np.diff(middles)).max()))
    lags = np.arange(1, min(LAGS + 1, max(part.size for part in parts)))
    growth = []
    for lag in lags:
        apart = np.concatenate([part[lag:] - part[:-lag] for part in parts if part.size > lag])
        growth.append(float(np.mean(np.minimum(np.abs(apart), far) ** 2)))
    seen = np.array(growth) / max(growth[0], noise**2)
    expected = (1 - MEMORIES[:, None] ** lags) / (1 - MEMORIES[:, None])
    r = float(MEMORIES[((seen - expected) ** 2).sum(axis=1).argmin()])
    r = min(r + CAUTION / math.sqrt(x.size), MAX_AUTOCORRELATION) if r else 0.0
    return max(math.sqrt(growth[0] / 2), noise), r


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

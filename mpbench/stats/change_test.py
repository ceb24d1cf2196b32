"""Has one figure of a run changed against the same figure of earlier runs? The statistics behind the gate's verdicts.

Pure functions over logarithms of rounds; knows nothing of cases, thresholds per case, files or pytest.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np
import scipy
from numpy.typing import ArrayLike

from mpbench.stats.intervals import MAD_TO_SD, TRIM_FRACTION, Interval, trimmed_mean_error, winsorised
from mpbench.stats.run_spread import Prior, Spread, centre, spread, variance_of_centre, variance_of_mean, vary_alike

MIN_ROUNDS = 8
"""With fewer too little survives trimming to tell the spread from: bursts that hit two rounds pass for a change."""

MIN_HISTORY = 3
"""Earlier runs below which it is hardly known how much runs differ."""

PRIOR_DEGREES = 4
"""Weight, in degrees of freedom, of what is expected of runs beside what the few earlier ones show: as much as five
runs say."""

CLEARLY_LARGER = 2.0
"""Times the variance that is expected, from which on a figure's own counts by itself: five runs show so much by chance
in one of ten figures, and their four degrees of freedom alone would find little."""

SEGMENTS = 5
MIN_SEGMENT_ROUNDS = 4
"""A run's rounds are cut into so many stretches, of at least so many rounds, to see how its level wanders."""

WANDER_LEVEL = 0.01
"""A wander that chance would show in more than this share of steady runs counts as none."""

CONFIDENCE = 0.95
"""Of the intervals shown, and of the one that must lie within the thresholds for SAME."""


class Outcome(Enum):
    """Whether a figure has changed."""

    SLOWER = "SLOWER"
    FASTER = "FASTER"
    SAME = "SAME"
    UNSURE = "UNSURE"


@dataclass(frozen=True)
class Level:
    """One figure of one run: the level of the logarithms of its rounds.

    Attributes:
        mean: their 20 % trimmed mean.
        error: its standard error, as if rounds were independent.
        rounds: how many there are.
        between, within: variance of the means of the run's stretches, and what independent rounds would make of it;
            zero where there are too few rounds for stretches.
        runs: over how many runs it is the mean.
    """

    mean: float
    error: float
    rounds: int
    between: float
    within: float
    runs: int = 1

    @property
    def degrees(self) -> int:
        """Of freedom of the error: rounds that survive trimming, less one (Tukey and McLaughlin 1963)."""
        return self.rounds - 2 * int(TRIM_FRACTION * self.rounds) - 1

    @property
    def stretches(self) -> int:
        return _stretches(self.rounds)


@dataclass(frozen=True)
class Limits:
    """What counts as a change of one figure, in logarithms, all positive.

    Attributes:
        slower, faster: least change in either direction.
        towards: +1 where a higher figure is slower (times), -1 where it is faster (speedups).
        least_sd: standard deviation that the figure is taken to have between runs on an idle machine.
        alpha: one-sided level of the test.
    """

    slower: float
    faster: float
    towards: int
    least_sd: float
    alpha: float


@dataclass(frozen=True)
class Finding:
    """What was found of one figure.

    Attributes:
        outcome: whether it has changed.
        shift: of the new run from the earlier ones, in logarithms.
        change: the same as a fraction, with its 95 % interval.
        spread, degrees: standard deviation of the shift if nothing has changed, in logarithms, and its degrees of
            freedom.
        p: one-sided, that the shift in its direction is chance.
        runs: earlier runs compared with.
        advice: how many more rounds would settle an UNSURE, or that none would; empty for the others.
    """

    outcome: Outcome
    shift: float
    change: Interval
    spread: float
    degrees: float
    p: float
    runs: int
    advice: str


def level(logs: ArrayLike) -> Level:
    """The level of a run's rounds.

    Args:
        logs: logarithms of rounds, or of ratios of rounds, shape (n,), n at least MIN_ROUNDS, in the order measured.
    """
    x = np.asarray(logs, dtype=float)
    mean, error = trimmed_mean_error(x)
    stretches = _stretches(x.size)
    if stretches < 2:
        return Level(mean, error, x.size, 0.0, 0.0)
    parts = np.array_split(winsorised(x), stretches)
    between = float(np.var([part.mean() for part in parts], ddof=1))
    within = sum(float(part.var(ddof=1)) / part.size for part in parts) / len(parts)
    return Level(mean, error, x.size, between, within)


def mean_of(levels: Sequence[Level]) -> Level:
    """Several runs of one thing as one level."""
    if len(levels) == 1:
        return levels[0]
    n = len(levels)
    return Level(
        sum(one.mean for one in levels) / n,
        math.sqrt(sum(one.error**2 for one in levels)) / n,
        sum(one.rounds for one in levels),
        sum(one.between for one in levels) / n,
        sum(one.within for one in levels) / n,
        sum(one.runs for one in levels),
    )


def shift_excess(figures: Sequence[tuple[Level, Sequence[Level]]]) -> float:
    """Variance between runs, as shown by how far the shifts of several figures differ from each other.

    Robust: a few that have changed do not count (1.4826 times the median absolute deviation).

    Args:
        figures: the level of the new run and those of earlier ones, for each; at least one.
    """
    shifts = np.array([new.mean - np.median([e.mean for e in earlier]) for new, earlier in figures])
    spread = MAD_TO_SD * float(np.median(np.abs(shifts - np.median(shifts))))
    rounds = float(np.median([new.error**2 + np.mean([e.error**2 for e in earlier]) for new, earlier in figures]))
    return max(spread**2 - rounds, 0.0) / 2


def compare(
    new: Level,
    earlier: Sequence[Level],
    limits: Limits,
    prior: Prior | None = None,
    own: Spread | None = None,
    usual: float = 0.0,
    memory: float = 0.0,
) -> Finding:
    """Whether a figure has changed.

    The shift from the centre of the earlier runs is tested with Student's t, degrees of freedom after Satterthwaite
    (1946). Its variance has two parts: that of the rounds, and that between runs, without which every comparison of two
    runs looks significant. The latter is the larger of two: the figure's own, shrunk towards the prior as limma does
    (Smyth 2004), and the mean, weighted by degrees of freedom, of its own and of what is expected of any figure.
    Without a prior a figure's own variance counts by itself, with its own degrees of freedom, where it is clearly
    larger.

    Args:
        new: of the run to judge, or of it and those that measured it again.
        earlier: of comparable runs, at least one.
        limits: what counts as a change.
        prior: of the figures of its kind; None where too few are known.
        own: how much the figure differs between runs; None: as the earlier ones do.
        usual: variance between runs that is expected at least.
        memory: correlation of neighbouring runs; that the new one is a neighbour of the earlier ones is not counted on.
    """
    count = len(earlier)
    shift = new.mean - centre([e.mean for e in earlier])
    own = own or spread([[(e.mean, e.error) for e in earlier]])
    between, between_degrees = _between([new, *earlier], new, limits, prior, own, usual)
    of_centre = variance_of_centre(count)  # its variance in units of one run's
    # Where figures differ in how much they vary, this one may be at another of several levels in all of the new runs.
    averaged = new.runs if prior is None or vary_alike(prior) else 1
    runs = variance_of_mean(averaged, memory)
    runs += of_centre * sum(1 / e.runs for e in earlier) * variance_of_mean(count, memory)
    parts = [(between * runs, between_degrees)]
    parts += [(of_centre * e.error**2 / count, e.degrees) for e in earlier]
    fixed = sum(variance for variance, _ in parts)
    parts.append((new.error**2, new.degrees))
    variance = sum(v for v, _ in parts)
    degrees = variance**2 / sum(v**2 / n for v, n in parts)
    sd = math.sqrt(variance)

    slowdown = limits.towards * shift
    p = float(scipy.special.stdtr(degrees, -abs(shift) / sd))
    reach = float(scipy.special.stdtrit(degrees, 0.5 + CONFIDENCE / 2))
    change = Interval(*(math.expm1(shift + side * reach * sd) for side in (0, -1, 1)))
    advice = ""
    if slowdown >= limits.slower and p <= limits.alpha:
        outcome = Outcome.SLOWER
    elif -slowdown >= limits.faster and p <= limits.alpha:
        outcome = Outcome.FASTER
    elif slowdown + reach * sd < limits.slower and -slowdown + reach * sd < limits.faster:
        outcome = Outcome.SAME
    else:
        outcome = Outcome.UNSURE
        # What would settle it: to be sure of a difference where there seems to be one, else of there being none.
        if slowdown >= limits.slower or -slowdown >= limits.faster:
            wanted = abs(slowdown) / float(scipy.special.stdtrit(degrees, 1 - limits.alpha))
        else:
            wanted = min(limits.slower - slowdown, limits.faster + slowdown) / reach
        advice = _advice(new, wanted**2 - fixed, between, count)
    return Finding(outcome, shift, change, sd, degrees, p, count, advice)


def _between(
    levels: Sequence[Level], new: Level, limits: Limits, prior: Prior | None, own: Spread, usual: float
) -> tuple[float, float]:
    """Variance between runs, and its degrees of freedom."""
    excess = max(own.excess, 0.0)
    mean_excess = prior.mean_excess if prior else 0.0
    expected = max(limits.least_sd**2, usual, mean_excess, _wander(levels), _wander([new]))
    as_any = (PRIOR_DEGREES * expected + own.degrees * excess) / (PRIOR_DEGREES + own.degrees)
    if prior is None:
        if own.degrees and excess > CLEARLY_LARGER * expected:
            return excess, own.degrees
        return as_any, PRIOR_DEGREES + own.degrees
    degrees = prior.degrees + own.degrees
    shrunk = (prior.degrees * prior.variance + own.degrees * own.variance) / degrees
    return max(shrunk - own.rounds, as_any), degrees


def is_unusual(now: float, earlier: ArrayLike, least_sd: float, level: float) -> bool:
    """Whether a shift of a whole run is beyond how earlier runs shift, at a two-sided level.

    Args:
        now: in logarithms, against the centre of the earlier runs.
        earlier: theirs, shape (n,), n at least 2.
        least_sd: as in Limits.
        level: share of unchanged runs that are called unusual.
    """
    shifts = np.asarray(earlier, dtype=float)
    degrees = PRIOR_DEGREES + shifts.size - 1
    variance = (PRIOR_DEGREES * least_sd**2 + (shifts.size - 1) * float(np.var(shifts, ddof=1))) / degrees
    spread = math.sqrt(variance * (1 + 1 / shifts.size))
    return abs(now) > float(scipy.special.stdtrit(degrees, 1 - level / 2)) * spread


def _stretches(rounds: int) -> int:
    return min(SEGMENTS, rounds // MIN_SEGMENT_ROUNDS)


def _wander(levels: Sequence[Level]) -> float:
    """Variance of a level over the length of a stretch beyond what independent rounds make; 0 if that may be chance."""
    with_stretches = [one for one in levels if one.stretches > 1]
    if not with_stretches:
        return 0.0
    between = sum(one.between for one in with_stretches) / len(with_stretches)
    within = sum(one.within for one in with_stretches) / len(with_stretches)
    upper = sum(one.stretches - 1 for one in with_stretches)
    lower = sum(one.rounds - one.stretches for one in with_stretches)
    chance = float(scipy.special.fdtri(upper, lower, 1 - WANDER_LEVEL))
    return between - within if between > chance * within else 0.0


def _advice(new: Level, room: float, between: float, count: int) -> str:
    if room > 0:
        needed = math.ceil(new.rounds * new.error**2 / room)
        return f"about {max(needed - new.rounds, 1)} more rounds would settle it (--mp-max-time)"
    differ = f"runs differ by {100 * math.sqrt(between):.1f} % from each other"
    if count < MIN_HISTORY:
        return f"more rounds would not settle it, {MIN_HISTORY} or more earlier runs may: so far {differ} at a guess"
    return f"no number of rounds would settle it: {differ}"

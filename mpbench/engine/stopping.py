"""When a measurement is done: what the rounds of each arm say so far, and whether its group is to be visited again.

Pure, as `interleave.py`, which takes the rounds. Every rule is explained in docs/method.md under the name of the
constant that governs it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from mpbench.records.rounds import Judged, paired
from mpbench.stats.intervals import MIN_PAIRS, Interval, log_ratios, speedup_interval, time_interval, wander

MIN_VISITS = 3
"""No verdict before so many visits: what wanders within minutes shows between them."""

VISIT_BLOCKS = 10
"""Blocks of each of these: with fewer rounds in all an interval is narrow by luck."""

LEAST_VISIT_BLOCKS = 2
"""The same where the time limit comes first: MIN_VISITS of them are more than MIN_PAIRS."""

LOOK_GROWTH = 1.3
"""Later visits make the blocks grow by this factor each: looking after every block would stop at a lucky one."""

LOOKS_TO_STOP = 2
"""In a row, at which all intervals must be narrow enough, for the same reason."""

GO_ON_LEVEL = 0.1
"""A group goes on while a figure moves slowly in a way that chance gives to fewer series than this: a longer one shows
what it is."""

GO_ON_REACH = 0.1
"""Of the tolerance: what moves by less is of no interest, however surely it moves."""

DRIFT_LEVEL = 0.01
"""A figure that moves by more than the tolerance, in a way that chance gives to fewer series than this, is DRIFTING."""


@dataclass(frozen=True)
class Plan:
    """When to stop.

    Attributes:
        max_seconds: time limit for the blocks of one group; MIN_VISITS of LEAST_VISIT_BLOCKS are measured whatever they
            take.
        tolerance: half-width of the 95 % interval to reach, relative (0.01 for 1 %).
    """

    max_seconds: float
    tolerance: float = 0.01


@dataclass
class Series:
    """What measuring one arm gave.

    Attributes:
        images, baseline, reference: as in its Arm.
        rounds: seconds per step, one figure a round, in the order measured; rounds in which a step was skipped
            are left out, since a skipped step is not a training step.
        blocks: the number of the block in which each round was measured; equal numbers pair across arms.
        throttled_blocks: those of them in which the device was throttled.
        steps_per_round: steps behind each figure.
        warmup_rounds: rounds run and dropped, before the first block and where a visit begins after others.
        settled: whether warm-up ended because the series was stationary (and not at its time limit).
        skipped_steps, warmup_skipped_steps: steps that loss scaling skipped in measured rounds, and in those dropped.
        interval: what was made narrow: the speedup, or where there is none the time of a step in seconds.
        speedup: over the baseline; None for the baseline itself and where it was not measured.
        over_reference: the same over the reference.
        noisy: the time limit came before the interval was narrow enough, or the figure drifts.
        drift: by how much the figure moved while it was measured, relative; None where it may have been chance or was
            within the tolerance.
        error: what ended this arm early; its rounds are then no result.
    """

    images: int = 1
    baseline: str | None = None
    reference: str | None = None
    rounds: list[float] = field(default_factory=list)
    blocks: list[int] = field(default_factory=list)
    throttled_blocks: list[int] = field(default_factory=list)
    steps_per_round: int = 1
    warmup_rounds: int = 0
    settled: bool = False
    skipped_steps: int = 0
    warmup_skipped_steps: int = 0
    interval: Interval | None = None
    speedup: Interval | None = None
    over_reference: Interval | None = None
    noisy: bool = True
    drift: float | None = None
    error: Exception | None = None

    @property
    def unpaired_blocks(self) -> str:
        """Numbers of the blocks that left no round, comma-separated; the others number the rounds."""
        return ",".join(str(b) for b in sorted(set(range(self.blocks[-1] + 1)) - set(self.blocks)))

    @property
    def throttled(self) -> bool:
        """Whether so few rounds were free of throttling that all have to count."""
        return len(self.blocks) - len(self.throttled_blocks) < min(MIN_PAIRS, len(self.blocks))

    @property
    def judged(self) -> Judged:
        """The rounds that figures are made of: those measured while the device was not throttled, or else all."""
        out = () if self.throttled else set(self.throttled_blocks)
        return Judged.of((block, one) for block, one in zip(self.blocks, self.rounds, strict=True) if block not in out)


class Stopping:
    """How long a group is measured; seconds are those that its blocks would have taken with one more.

    Attributes:
        done: whether it has been measured for long enough.
        width: relative half-width of the widest interval at the last look; infinite where rounds are too few for one.
    """

    def __init__(self, plan: Plan) -> None:
        self.done = False
        self.width = math.inf
        self._plan = plan
        self._narrow_looks = 0

    def visit_ends(self, visit: int, before: int, blocks: int, seconds: float) -> bool:
        """Whether a visit, numbered from 1, is over, from the blocks when it began and those now."""
        first = visit <= MIN_VISITS
        enough = VISIT_BLOCKS * visit if first else math.ceil(before * LOOK_GROWTH)
        least = before + (LEAST_VISIT_BLOCKS if first else 1)
        limit = self._plan.max_seconds * min(visit / MIN_VISITS, 1.0)
        return blocks >= enough or (blocks >= least and seconds > limit)

    def look(self, series: Mapping[str, Series], visits: int, seconds: float) -> None:
        """Judge the rounds after a visit, which puts intervals and doubts into the series; decide whether to go on."""
        self.width, wandering = _judge(series, self._plan.tolerance)
        self._narrow_looks = self._narrow_looks + 1 if self.width <= self._plan.tolerance else 0
        enough = self._narrow_looks >= LOOKS_TO_STOP and not wandering
        self.done = visits >= MIN_VISITS and (enough or seconds > self._plan.max_seconds)


def _judge(series: Mapping[str, Series], tolerance: float) -> tuple[float, bool]:
    """Judge each arm; the widest relative half-width, and whether a figure moves slowly."""
    usable = {name: one for name, one in series.items() if one.error is None and len(one.judged.rounds) >= MIN_PAIRS}
    baselines = {one.baseline for one in series.values() if one.error is None}
    widest, wandering = 0.0, False
    for name, one in series.items():
        if one.error is not None:
            continue
        one.speedup = one.drift = one.over_reference = None
        if name in usable and (reference := usable.get(one.reference or "")):
            theirs, mine = _per_image(reference, one)
            one.over_reference = speedup_interval(theirs, mine) if len(mine) >= MIN_PAIRS else None
        if baseline := usable.get(one.baseline or ""):
            theirs, mine = _per_image(baseline, one)
            logs = log_ratios(theirs, mine)
            one.interval = one.speedup = speedup_interval(theirs, mine) if len(mine) >= MIN_PAIRS else None
        else:
            rounds = one.judged.rounds
            logs = np.log(rounds)
            one.interval = time_interval(rounds) if name in usable else None
            if name in usable and name in baselines:
                # Its figure enters every ratio and is as good as they are; alone, it is judged by itself.
                one.noisy = False
                continue
        moves = wander(logs)
        reach = math.expm1(moves.reach)
        wandering = wandering or (moves.p < GO_ON_LEVEL and reach > GO_ON_REACH * tolerance)
        if moves.p < DRIFT_LEVEL and reach > tolerance:
            one.drift = reach
        width = math.inf if one.interval is None else one.interval.relative_half_width
        one.noisy = width > tolerance or one.drift is not None
        widest = max(widest, width)
    return widest, wandering


def _per_image(base: Series, one: Series) -> tuple[list[float], list[float]]:
    """The rounds of both that are paired and count, in seconds per image."""
    mine, theirs = paired(one.judged, base.judged)
    return [seconds / base.images for seconds in theirs], [seconds / one.images for seconds in mine]

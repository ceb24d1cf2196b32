"""How the arms of a group are measured: warm-up, interleaving, stopping. Pure control over callables and a clock.

Nothing here knows what a step is, or TensorFlow, or pytest; tests drive it with a simulated clock. Every rule is
explained in docs/method.md under the name of the constant that governs it.
"""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mpbench.errors import CaseFailure
from mpbench.records.rounds import Judged, paired
from mpbench.stats.intervals import MIN_PAIRS, Interval, log_ratios, speedup_interval, time_interval, wander
from mpbench.stats.stationarity import is_stationary

Clock = Callable[[], float]
Progress = Callable[[str], None]

ROUND_SECONDS = 0.1
"""A round is given this length (and keeps at least half of it should the steps get faster later): many steps where
they are short, one where it is longer. Against it the synchronisation at its end (tens of microseconds) is nothing."""

MAX_STEPS_PER_ROUND = 1000
WARMUP_WINDOW_ROUNDS = 6
"""The rounds looked at to decide that warm-up is over: the smallest window that `is_stationary` takes."""

WARMUP_SHARE = 0.5
"""Warm-up ends, settled or not, after this share of the time limit."""

MIN_VISITS = 3
"""A group is measured in so many visits at least, between which others of the session are: what wanders within minutes
then shows."""

VISIT_BLOCKS = 10
"""Blocks of each of the first visits. No verdict before MIN_VISITS of them: with fewer rounds an interval is narrow by
luck, and it does not show whether rounds depend on each other."""

LEAST_VISIT_BLOCKS = 2
"""The same where the time limit comes first: MIN_VISITS of them are more than MIN_PAIRS."""

LOOK_GROWTH = 1.3
"""Later visits make the blocks grow by this factor each. The interval is looked at after each visit: looking after
every block would stop at a lucky one, and an interval that is only looked at when it is narrow covers less than its
nominal 95 %."""

LOOKS_TO_STOP = 2
"""The interval must be narrow enough at this many looks in a row, for the same reason."""

GO_ON_LEVEL = 0.1
"""A group goes on, however narrow its intervals, while one of its figures moves slowly in a way that chance gives to
fewer series than this: a longer series shows what it is."""

GO_ON_REACH = 0.1
"""Of the tolerance: what moves by less is of no interest, however surely it moves."""

DRIFT_LEVEL = 0.01
"""A figure whose slow movement chance gives to fewer series than this, and that moves by more than the tolerance, is
DRIFTING: one number does not describe it."""

LONGEST_LEAD_IN_SECONDS = 1.0
"""After others have run, the first block of a visit is dropped: it finds caches and clocks as they left them. A block
that takes longer than this makes up for that by itself."""

ENDED_ELSEWHERE = "it failed on another worker, whose log says why"
DEFAULT_TOLERANCE = 0.01


@dataclass(frozen=True)
class Arm:
    """One precision of a group, as the measurement sees it.

    Attributes:
        name: unique in its group.
        run: takes a number of steps, runs them back to back and returns when the device has finished them.
        skipped_steps: how many updates loss scaling has dropped so far; read outside the timed region.
        images: that each of its steps takes; where arms differ in it, speedups are of the time per image.
        before, after: what must happen around each of its rounds, outside the timed region.
        throttled: whether the device was throttled in the round that has just ended; asked outside the timed region.
    """

    name: str
    run: Callable[[int], None]
    skipped_steps: Callable[[], int] = lambda: 0
    images: int = 1
    before: Callable[[], None] = lambda: None
    after: Callable[[], None] = lambda: None
    throttled: Callable[[], bool] = lambda: False


@dataclass
class Series:
    """What measuring one arm gave.

    Attributes:
        rounds: seconds per step, one figure a round, in the order measured; rounds in which a step was skipped
            are left out, since a skipped step is not a training step.
        blocks: the number of the block in which each round was measured; equal numbers pair across arms.
        throttled_blocks: those of them in which the device was throttled.
        images: as in its Arm.
        steps_per_round: steps behind each figure.
        warmup_rounds: rounds run and dropped, before the first block and where a visit begins after others.
        settled: whether warm-up ended because the series was stationary (and not at its time limit).
        skipped_steps: steps that loss scaling skipped in measured rounds.
        warmup_skipped_steps: the same during warm-up.
        interval: what was made narrow: the speedup, or where there is none the time of a step in seconds.
        speedup: over the baseline; None for the baseline itself and where it was not measured.
        over_reference: the same over its reference.
        noisy: the time limit came before the interval was narrow enough, or the figure drifts.
        drift: by how much the figure moved while it was measured, relative; None where it may have been chance or was
            within the tolerance.
        error: what ended this arm early; its rounds are then no result.
    """

    rounds: list[float] = field(default_factory=list)
    blocks: list[int] = field(default_factory=list)
    throttled_blocks: list[int] = field(default_factory=list)
    images: int = 1
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


@dataclass(frozen=True)
class Plan:
    """When to stop.

    Attributes:
        tolerance: half-width of the 95 % interval to reach, relative (0.01 for 1 %).
        max_seconds: time limit for the blocks of one group; MIN_VISITS of LEAST_VISIT_BLOCKS are measured whatever they
            take.
        round_seconds: least length of a round of short steps.
    """

    max_seconds: float
    tolerance: float = DEFAULT_TOLERANCE
    round_seconds: float = ROUND_SECONDS


class Measurement:
    """The arms of one group, measured in visits, each of interleaved blocks, each block in a random order of its own.

    An arm that raises is dropped with its error kept; the others go on.

    Args:
        arms: what to measure; each has run at least one step before.
        plan: when to stop.
        baseline: name of the arm that ratios refer to, or for each arm its own; None, or one that fails, leaves times
            instead of ratios.
        references: for each arm another one that it is compared with besides; no reason to go on measuring.
        agree: makes one figure of those that several machines have, the same on all: where they share the work of a
            step, all must run the same rounds.
        clock: seconds, monotonic.
        seed: of the orders of the blocks.
        progress: called with a short text as each part begins, and with the outcome.

    Attributes:
        series: of each arm, by name; with intervals once a visit has ended.
        visits: number of the first block of each.
    """

    def __init__(
        self,
        arms: Sequence[Arm],
        plan: Plan,
        *,
        baseline: str | Mapping[str, str] | None = None,
        references: Mapping[str, str] | None = None,
        agree: Callable[[float], float] = lambda mine: mine,
        clock: Clock = time.perf_counter,
        seed: int = 0,
        progress: Progress = lambda _: None,
    ) -> None:
        self.visits: list[int] = []
        self._plan = plan
        self._agree = agree
        self._clock = clock
        self._progress = progress
        self._references = references or {}
        if isinstance(baseline, str):
            baseline = {arm.name: baseline for arm in arms if arm.name != baseline}
        self._bases = baseline or {}
        self._group = _Group(arms, clock, agree, seed, plan.round_seconds)
        self._blocks = 0
        self._passes = 0
        self._seconds = self._block_seconds = 0.0
        self._goes_on = True

    @property
    def series(self) -> dict[str, Series]:
        return self._group.series

    @property
    def done(self) -> bool:
        """Whether no further visit is needed, or possible."""
        return not self._group.live or not self._goes_on

    def visit(self, after_others: bool = False) -> None:
        """Measure for a while.

        Args:
            after_others: whether other groups have run since the last visit.
        """
        if not self.visits:
            self._progress("warming up")
            _warm_up(self._group, self._plan.max_seconds * WARMUP_SHARE)
        elif after_others and self._block_seconds <= LONGEST_LEAD_IN_SECONDS:
            self._group.lead_in()
        self.visits.append(self._blocks)
        count = len(self.visits)
        first = count <= MIN_VISITS
        wanted = VISIT_BLOCKS * count if first else math.ceil(self._blocks * LOOK_GROWTH)
        limit = self._plan.max_seconds * min(count / MIN_VISITS, 1.0)
        least = self._blocks + (LEAST_VISIT_BLOCKS if first else 1)
        while self._group.live and self._blocks < wanted:
            if self._blocks >= least and self._seconds + self._block_seconds > limit:
                break
            began = self._clock()
            self._group.run_block(self._blocks)
            self._blocks += 1
            self._block_seconds = self._agree(self._clock() - began)
            self._seconds += self._block_seconds
        self._look()

    def _look(self) -> None:
        """Put each arm's intervals into its series, and decide whether to go on."""
        tolerance = self._plan.tolerance
        widest, wandering = _judge(self.series, self._bases, tolerance)
        for name, reference in self._references.items():
            if _counts(self.series.get(reference)) and _counts(self.series.get(name)):
                theirs, mine = _per_image(self.series[reference], self.series[name])
                self.series[name].over_reference = speedup_interval(theirs, mine) if len(mine) >= MIN_PAIRS else None
        self._passes = self._passes + 1 if widest <= tolerance else 0
        enough = self._passes >= LOOKS_TO_STOP and not wandering
        in_time = self._seconds + self._block_seconds <= self._plan.max_seconds
        self._goes_on = len(self.visits) < MIN_VISITS or (in_time and not enough)
        if self._group.live:
            width = "too few rounds for an interval" if math.isinf(widest) else f"within ±{100 * widest:.1f} %"
            self._progress(f"visit {len(self.visits)}: {self._blocks} blocks in {self._seconds:.0f} s so far, {width}")


def measure(arms: Sequence[Arm], plan: Plan, **arguments: Any) -> dict[str, Series]:
    """Measure one group alone, visit after visit; arguments as of `Measurement`. Gives one series per arm, by name."""
    measurement = Measurement(arms, plan, **arguments)
    while not measurement.done:
        measurement.visit()
    return measurement.series


class _Group:
    """The arms that still run, their series, and the clock between them."""

    def __init__(
        self, arms: Sequence[Arm], clock: Clock, agree: Callable[[float], float], seed: int, round_seconds: float
    ) -> None:
        self.series = {arm.name: Series(images=arm.images) for arm in arms}
        self.live = list(arms)
        self.clock = clock
        self.agree = agree
        self._round_seconds = round_seconds
        self._rng = np.random.default_rng(seed)
        self._measuring = False

    def run_block(self, block: int) -> None:
        """One round of every live arm, in random order; rounds with a skipped step are counted, not kept."""
        self._measuring = True
        for arm, series, seconds, skipped in self._rounds():
            series.skipped_steps += skipped
            if not skipped:
                series.rounds.append(seconds)
                series.blocks.append(block)
                if self.agree(float(arm.throttled())):
                    series.throttled_blocks.append(block)

    def lead_in(self) -> None:
        """One round of every live arm that does not count; its skipped steps count as those of warm-up."""
        for _, series, _, skipped in self._rounds():
            series.warmup_rounds += 1
            series.warmup_skipped_steps += skipped

    def warmup_block(self, windows: dict[str, list[float]]) -> None:
        """One round of every live arm, kept only in `windows`; a skipped step empties the arm's window."""
        for arm, series, seconds, skipped in self._rounds():
            name = arm.name
            series.warmup_rounds += 1
            series.warmup_skipped_steps += skipped
            windows[name] = [] if skipped or not seconds else [*windows[name], seconds][-WARMUP_WINDOW_ROUNDS:]
            steps = math.ceil(self._round_seconds / seconds) if seconds else MAX_STEPS_PER_ROUND
            wanted = min(MAX_STEPS_PER_ROUND, max(1, steps))
            if wanted >= 2 * series.steps_per_round:
                # The first rounds hold the first steps and are slow: a round may still have to grow.
                series.steps_per_round = wanted
                windows[name] = []

    def _rounds(self) -> Iterator[tuple[Arm, Series, float, int]]:
        """Run one round of every live arm, in random order: the arm, series, seconds per step and skipped steps."""
        for arm in self._shuffled():
            series = self.series[arm.name]
            timed = self._timed(arm, series.steps_per_round)
            if timed is not None:
                yield arm, series, *timed

    def _shuffled(self) -> list[Arm]:
        return [self.live[i] for i in self._rng.permutation(len(self.live))]

    def _timed(self, arm: Arm, steps: int) -> tuple[float, int] | None:
        """Seconds per step of one round and the steps skipped in it, or None if the arm failed."""
        gc_was_enabled = gc.isenabled()
        try:
            arm.before()
            skipped_before = arm.skipped_steps()
            gc.disable()
            start = self.clock()
            arm.run(steps)
            end = self.clock()
            arm.after()
            seconds, skipped = (end - start) / steps, arm.skipped_steps() - skipped_before
            error = None
        except Exception as caught:  # an arm's failure, of whatever kind, is its own
            seconds, skipped, error = math.inf, 0, caught
        finally:
            if gc_was_enabled:
                gc.enable()
        seconds, skipped = self.agree(seconds), int(self.agree(skipped))
        if not seconds and (self._measuring or steps == MAX_STEPS_PER_ROUND):
            seconds, error = math.inf, CaseFailure(f"a round of {steps} steps took no time by this clock")
        if math.isinf(seconds):
            self.series[arm.name].error = error or CaseFailure(ENDED_ELSEWHERE)
            self.live.remove(arm)
            return None
        return seconds, skipped


def _warm_up(group: _Group, max_seconds: float) -> None:
    started = group.clock()
    windows: dict[str, list[float]] = {arm.name: [] for arm in group.live}
    while group.live:
        group.warmup_block(windows)
        for arm in group.live:
            window = windows[arm.name]
            group.series[arm.name].settled = len(window) == WARMUP_WINDOW_ROUNDS and is_stationary(window)
        if all(group.series[arm.name].settled for arm in group.live):
            return
        if group.agree(group.clock() - started) > max_seconds:
            return


def _judge(series: dict[str, Series], bases: Mapping[str, str], tolerance: float) -> tuple[float, bool]:
    """Put each arm's interval and what is wrong with it into its series.

    Args:
        bases: for each arm the one that its speedup refers to; no arm is another's base and has one itself.

    Returns:
        The widest relative half-width, and whether a figure moves slowly.
    """
    with_base = {name: base for name, base in bases.items() if name in series and _counts(series.get(base))}
    widest, wandering = 0.0, False
    for name, one in series.items():
        if one.error is not None:
            continue
        one.speedup = one.drift = None
        logs: Any = ()
        if name in with_base:
            theirs, mine = _per_image(series[with_base[name]], one)
            if len(mine) >= MIN_PAIRS:
                one.interval = one.speedup = speedup_interval(theirs, mine)
                logs = log_ratios(theirs, mine)
            else:
                one.interval = None
        else:
            rounds = one.judged.rounds
            one.interval = time_interval(rounds) if len(rounds) >= MIN_PAIRS else None
            if any(base == name and series[other].error is None for other, base in with_base.items()):
                # Its figure enters every ratio and is as good as they are; alone, it is judged by itself.
                one.noisy = False
                continue
            logs = np.log(rounds)
        moves = wander(logs)
        reach = math.expm1(moves.reach)
        wandering = wandering or (moves.p < GO_ON_LEVEL and reach > GO_ON_REACH * tolerance)
        if moves.p < DRIFT_LEVEL and reach > tolerance:
            one.drift = reach
        width = math.inf if one.interval is None else one.interval.relative_half_width
        one.noisy = width > tolerance or one.drift is not None
        widest = max(widest, width)
    return widest, wandering


def _counts(one: Series | None) -> bool:
    """Whether ratios can refer to an arm."""
    return one is not None and one.error is None and len(one.judged.rounds) >= MIN_PAIRS


def _per_image(base: Series, one: Series) -> tuple[list[float], list[float]]:
    """The rounds of both that are paired and count, in seconds per image."""
    mine, theirs = paired(one.judged, base.judged)
    return [seconds / base.images for seconds in theirs], [seconds / one.images for seconds in mine]

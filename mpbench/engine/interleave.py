"""How the arms of a group are measured: rounds of warm-up, and visits of blocks in which the arms take turns.

Pure control over callables and a clock: nothing here knows what a step is, or TensorFlow, or pytest; tests drive it
with a simulated clock. How long it goes on is decided in `stopping.py`. Every rule is explained in docs/method.md under
the name of the constant that governs it.
"""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from mpbench.engine.stopping import Plan, Series, Stopping
from mpbench.errors import CaseFailure, described
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

LONGEST_LEAD_IN_SECONDS = 1.0
"""After others have run, the first block of a visit is dropped: it finds caches and clocks as they left them. A block
that takes longer than this makes up for that by itself."""

ENDED_ELSEWHERE = "it failed on another worker, whose log says why"


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
        baseline: name of the arm that its speedup refers to; without one, or where that fails, its time is measured.
        reference: name of another arm that it is compared with besides; no reason to go on measuring.
    """

    name: str
    run: Callable[[int], None]
    skipped_steps: Callable[[], int] = lambda: 0
    images: int = 1
    before: Callable[[], None] = lambda: None
    after: Callable[[], None] = lambda: None
    throttled: Callable[[], bool] = lambda: False
    baseline: str | None = None
    reference: str | None = None


class Measurement:
    """The arms of one group, measured in visits, each of interleaved blocks, each block in a random order of its own.

    An arm that raises is dropped with its error kept; the others go on.

    Args:
        arms: each has run at least one step before.
        plan: when to stop.
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
        agree: Callable[[float], float] = lambda mine: mine,
        clock: Clock = time.perf_counter,
        seed: int = 0,
        progress: Progress = lambda _: None,
    ) -> None:
        self.series = {arm.name: Series(arm.images, arm.baseline, arm.reference) for arm in arms}
        self.visits: list[int] = []
        self._live = list(arms)
        self._max_warmup_seconds = plan.max_seconds * WARMUP_SHARE
        self._stopping = Stopping(plan)
        self._agree = agree
        self._clock = clock
        self._rng = np.random.default_rng(seed)
        self._progress = progress
        self._blocks = 0
        self._seconds = self._block_seconds = 0.0

    @property
    def done(self) -> bool:
        """Whether no further visit is needed, or possible."""
        return not self._live or self._stopping.done

    def visit(self, after_others: bool = False) -> None:
        """Measure for a while; `after_others` where other groups have run since the last visit."""
        if not self.visits:
            self._progress("warming up")
            self._warm_up()
        elif after_others and self._block_seconds <= LONGEST_LEAD_IN_SECONDS:
            for _ in self._dropped_block():
                pass
        first = self._blocks
        self.visits.append(first)
        number = len(self.visits)
        while self._live and not self._stopping.visit_ends(number, first, self._blocks, self._with_one_more):
            began = self._clock()
            self._measured_block()
            self._block_seconds = self._agree(self._clock() - began)
            self._seconds += self._block_seconds
        self._stopping.look(self.series, number, self._with_one_more)
        if self._live:
            width = self._stopping.width
            found = "too few rounds for an interval" if math.isinf(width) else f"within ±{100 * width:.1f} %"
            self._progress(f"visit {number}: {self._blocks} blocks in {self._seconds:.0f} s so far, {found}")

    @property
    def _with_one_more(self) -> float:
        """Seconds that the blocks would have taken with one more."""
        return self._seconds + self._block_seconds

    def _warm_up(self) -> None:
        """Run blocks that do not count until every arm's last rounds are stationary, or the time for it is over."""
        started = self._clock()
        windows: dict[str, list[float]] = {name: [] for name in self.series}
        while self._live:
            for name, series, seconds, skipped in self._dropped_block():
                # A skipped step is no training step, and one that took no time tells nothing.
                window = [] if skipped or not seconds else [*windows[name], seconds][-WARMUP_WINDOW_ROUNDS:]
                steps = math.ceil(ROUND_SECONDS / seconds) if seconds else MAX_STEPS_PER_ROUND
                wanted = min(MAX_STEPS_PER_ROUND, max(1, steps))
                if wanted >= 2 * series.steps_per_round:
                    # The first rounds hold the first steps and are slow: a round may still have to grow.
                    series.steps_per_round, window = wanted, []
                windows[name] = window
                series.settled = len(window) == WARMUP_WINDOW_ROUNDS and is_stationary(window)
            if all(self.series[arm.name].settled for arm in self._live):
                return
            if self._agree(self._clock() - started) > self._max_warmup_seconds:
                return

    def _measured_block(self) -> None:
        """A block that counts; rounds with a skipped step are counted, not kept."""
        for arm, series, seconds, skipped in self._block():
            series.skipped_steps += skipped
            if not skipped:
                series.rounds.append(seconds)
                series.blocks.append(self._blocks)
                if self._agree(float(arm.throttled())):
                    series.throttled_blocks.append(self._blocks)
        self._blocks += 1

    def _dropped_block(self) -> Iterator[tuple[str, Series, float, int]]:
        """A block that does not count: of each arm the name, series, seconds per step and skipped steps."""
        for arm, series, seconds, skipped in self._block():
            series.warmup_rounds += 1
            series.warmup_skipped_steps += skipped
            yield arm.name, series, seconds, skipped

    def _block(self) -> Iterator[tuple[Arm, Series, float, int]]:
        """Run one round of every live arm, in random order: the arm, series, seconds per step and skipped steps."""
        for arm in [self._live[i] for i in self._rng.permutation(len(self._live))]:
            series = self.series[arm.name]
            try:
                seconds, skipped = self._round(arm, series.steps_per_round)
            except Exception as error:  # an arm's failure, of whatever kind, is its own
                series.error = error
                self._live.remove(arm)
            else:
                yield arm, series, seconds, skipped

    def _round(self, arm: Arm, steps: int) -> tuple[float, int]:
        """Seconds per step of one round, and the steps skipped in it; raises what ends the arm, here or elsewhere."""
        error: Exception | None = None
        seconds, skipped = math.inf, 0
        gc_was_enabled = gc.isenabled()
        try:
            arm.before()
            skipped_before = arm.skipped_steps()
            gc.disable()
            start = self._clock()
            arm.run(steps)
            end = self._clock()
            arm.after()
            skipped = arm.skipped_steps() - skipped_before
            seconds = (end - start) / steps
        except Exception as caught:  # said now, as others may wait in this step for it, and raised once all have agreed
            error = caught
            self._progress(f"{arm.name}: {described(error)}")
        finally:
            if gc_was_enabled:
                gc.enable()
        seconds, skipped = self._agree(seconds), int(self._agree(skipped))
        if math.isinf(seconds):
            raise error or CaseFailure(ENDED_ELSEWHERE)
        if not seconds and (self.visits or steps == MAX_STEPS_PER_ROUND):
            raise CaseFailure(f"a round of {steps} steps took no time by this clock")
        return seconds, skipped


def measure(arms: Sequence[Arm], plan: Plan, *, baseline: str | None = None, **options: Any) -> dict[str, Series]:
    """Measure one group alone, visit after visit; gives one series per arm, by name.

    Args:
        baseline: name of the arm that the speedups of all others refer to; None where each arm says its own.
        options: see `Measurement`.
    """
    if baseline is not None:
        arms = [arm if arm.name == baseline else replace(arm, baseline=baseline) for arm in arms]
    measurement = Measurement(arms, plan, **options)
    while not measurement.done:
        measurement.visit()
    return measurement.series

"""Energy per step of each arm of a group, from a counter that is slow: pure control over callables, a clock, a counter.

The counter is brought up to date only every 20 to 100 ms. In rounds of 0.1 s, interleaved, one arm's energy would be
counted in the next one's; so each arm runs passes of its own, long against that, after the timed measurement.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mpbench.engine.interleave import Arm, Clock, Progress
from mpbench.errors import described

ENERGY_PASS_SECONDS = 1.0
"""Least length of a pass: two of them gave spreads of 0.2 to 3.6 % on an H200."""

ENERGY_PASSES = 2
"""Of each arm, all arms in turn: their spread tells what a figure is worth, and with fewer there is none."""

MAX_TURNS = 3
"""An arm of which a pass was left out runs one more."""

LEAD_IN_SECONDS = 0.25
"""Steps before the counter is read: by then clock and power are this arm's and no longer those of the one before."""

MAX_WAIT_SECONDS = 0.25
"""For the counter to move, at either end of a pass, while steps go on; it is read where it has just been updated."""

CHUNKS_PER_ROUND = 5
"""While waiting, so many looks at the counter for each round's length (0.1 s)."""


@dataclass(frozen=True)
class Energy:
    """What the passes of one arm gave, as in SpeedRecord.

    Attributes:
        joules_per_step: median of its passes.
        joules_spread: largest less smallest pass, as a share of the median.
        utilisation_percent: median of the readings at the end of each pass; None where there are none.
    """

    joules_per_step: float
    joules_spread: float
    utilisation_percent: float | None


def measure_energy(
    arms: Sequence[Arm],
    steps_per_round: Mapping[str, int],
    joules: Callable[[], float | None],
    utilisation_percent: Callable[[], float | None],
    *,
    clock: Clock = time.perf_counter,
    seed: int = 0,
    progress: Progress = lambda _: None,
) -> dict[str, Energy]:
    """Run passes of each arm, in a random order anew for each turn, and divide what the counter says by their steps.

    A pass in which loss scaling skipped a step is left out, and one more is run in its place. An arm that raises, or
    that keeps fewer than ENERGY_PASSES, has no energy: the times that were measured before stay valid.

    Args:
        arms: warmed up.
        steps_per_round: of each arm, by name; a round takes some 0.1 s, or one step.
        joules: reads the counter; None where there is none (any more).
        utilisation_percent: of the last second at most.

    Returns:
        By name of the arm; empty where nothing counts.
    """
    if not arms or joules() is None:
        return {}
    progress("measuring energy")
    rng = np.random.default_rng(seed)
    figures: dict[str, list[float]] = {arm.name: [] for arm in arms}
    utilisations: dict[str, list[float]] = {arm.name: [] for arm in arms}
    for _ in range(MAX_TURNS):
        for arm in [arms[i] for i in rng.permutation(len(arms))]:
            if arm.name not in figures or len(figures[arm.name]) == ENERGY_PASSES:
                continue
            try:
                figure = _joules_per_step(arm, steps_per_round[arm.name], joules, clock)
                busy = utilisation_percent()
            except Exception as error:  # an arm's failure, of whatever kind, is its own
                progress(f"{arm.name}: no energy: {described(error)}")
                del figures[arm.name]
                continue
            if figure is not None:
                figures[arm.name].append(figure)
            if busy is not None:
                utilisations[arm.name].append(busy)
    found = {}
    for name, passes in figures.items():
        if len(passes) == ENERGY_PASSES:
            median = float(np.median(passes))
            utilisation = float(np.median(utilisations[name])) if utilisations[name] else None
            found[name] = Energy(median, (max(passes) - min(passes)) / median, utilisation)
    return found


def _joules_per_step(arm: Arm, steps_per_round: int, joules: Callable[[], float | None], clock: Clock) -> float | None:
    """One pass of an arm; None where the counter did not grow, was lost, or a step was skipped."""
    taken = 0

    def run(steps: int) -> None:
        nonlocal taken
        arm.run(steps)
        taken += steps

    def run_for(seconds: float) -> None:
        """Whole rounds, at least one."""
        until = clock() + seconds
        run(steps_per_round)
        while clock() < until:
            run(steps_per_round)

    def updated() -> float | None:
        """The counter as soon as it has moved, while steps go on; or as it stands where it does not move in time."""
        stale = now = joules()
        until = clock() + MAX_WAIT_SECONDS
        while now == stale and now is not None and clock() < until:
            run(math.ceil(steps_per_round / CHUNKS_PER_ROUND))
            now = joules()
        return now

    arm.before()
    run_for(LEAD_IN_SECONDS)
    before = updated()
    skipped, taken = arm.skipped_steps(), 0
    run_for(ENERGY_PASS_SECONDS)
    after = updated()
    steps, clean = taken, arm.skipped_steps() == skipped
    arm.after()
    used = 0.0 if before is None or after is None else after - before
    return float(used / steps) if clean and used > 0 else None

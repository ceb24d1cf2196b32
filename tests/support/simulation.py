"""A machine in which time is a number: steps of known cost under drift, noise and bursts."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from mpbench.engine.interleave import Arm

STEP_SECONDS = 0.15


class Machine:
    """A simulated clock and the arms that advance it.

    Args:
        seed: of its noise.
        drift: relative slowdown reached at `drift_seconds`, linear from the start.
        drift_seconds: when.
        noise: standard deviation of a round's logarithm.
        burst_share: share of rounds that something else on the machine slows down, by 30 % on average.
    """

    def __init__(
        self,
        seed: int = 0,
        *,
        drift: float = 0.0,
        drift_seconds: float = 30.0,
        noise: float = 0.0,
        burst_share: float = 0.0,
    ) -> None:
        self.now = 0.0
        self.log: list[tuple[str, int]] = []
        self._rng = np.random.default_rng(seed)
        self._drift, self._drift_seconds = drift, drift_seconds
        self._noise, self._burst_share = noise, burst_share

    def clock(self) -> float:
        return self.now

    def arm(
        self,
        name: str,
        step_seconds: float | Callable[[int], float] = STEP_SECONDS,
        skips: Callable[[int], bool] = lambda step: False,
        fails_at: int | None = None,
    ) -> Arm:
        """An arm whose n-th step (from 0) takes that long, is skipped where `skips` says so, and may raise."""
        state = {"steps": 0, "skipped": 0}

        def run(steps: int) -> None:
            self.log.append((name, steps))
            noise = math.exp(self._rng.normal(0, self._noise))
            if self._rng.random() < self._burst_share:
                noise *= 1 + self._rng.exponential(0.3)
            for _ in range(steps):
                if state["steps"] == fails_at:
                    raise RuntimeError(f"{name} failed")
                cost = step_seconds(state["steps"]) if callable(step_seconds) else step_seconds
                slowed = 1 + self._drift * min(1.0, self.now / self._drift_seconds)
                self.now += cost * noise * slowed
                state["skipped"] += skips(state["steps"])
                state["steps"] += 1

        return Arm(name, run, lambda: state["skipped"])

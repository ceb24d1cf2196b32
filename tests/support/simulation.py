"""A machine in which time is a number: steps of known cost under drift, noise and bursts."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from mpbench.engine.interleave import Arm

STEP_SECONDS = 0.15


@dataclass(frozen=True)
class Noise:
    """Of one arm.

    Attributes:
        sd: standard deviation of a round's logarithm.
        memory: correlation of its logarithm with that of the round before.
        feels: share of the machine's switching and wave that it feels.
    """

    sd: float = 0.0
    memory: float = 0.0
    feels: float = 0.0


class Machine:
    """A simulated clock and the arms that advance it.

    Args:
        seed: of its noise.
        drift: relative slowdown reached at `drift_seconds`, linear from the start.
        drift_seconds: when.
        noise: standard deviation of a round's logarithm.
        burst_share: share of rounds that something else on the machine slows down, by 30 % on average.
        switching: relative slowdown in every second interval of switching_seconds, for arms that feel it.
        switching_seconds: see there.
        wave: amplitude of a sine that slows arms down and speeds them up, as far as they feel it, relative.
        wave_seconds: its period; where in it a machine begins is drawn.
    """

    Noise = Noise

    def __init__(
        self,
        seed: int = 0,
        *,
        drift: float = 0.0,
        drift_seconds: float = 30.0,
        noise: float = 0.0,
        burst_share: float = 0.0,
        switching: float = 0.0,
        switching_seconds: float = 3.0,
        wave: float = 0.0,
        wave_seconds: float = 20.0,
    ) -> None:
        self.now = 0.0
        self.log: list[tuple[str, int]] = []
        self._rng = np.random.default_rng(seed)
        self._drift, self._drift_seconds = drift, drift_seconds
        self._noise, self._burst_share = noise, burst_share
        self._switching, self._switching_seconds = switching, switching_seconds
        self._wave, self._wave_seconds, self._begin = wave, wave_seconds, self._rng.uniform(0, 60)

    def clock(self) -> float:
        return self.now

    def arm(
        self,
        name: str,
        step_seconds: float | Callable[[int], float] = STEP_SECONDS,
        skips: Callable[[int], bool] = lambda step: False,
        fails_at: int | None = None,
        noise: Noise = Noise(),  # noqa: B008
    ) -> Arm:
        """An arm whose n-th step (from 0) takes that long, is skipped where `skips` says so, and may raise."""
        state = {"steps": 0, "skipped": 0, "log": self._rng.normal(0, noise.sd)}

        def run(steps: int) -> None:
            self.log.append((name, steps))
            factor = math.exp(self._rng.normal(0, self._noise))
            if self._rng.random() < self._burst_share:
                factor *= 1 + self._rng.exponential(0.3)
            fresh = noise.sd * math.sqrt(1 - noise.memory**2)
            state["log"] = noise.memory * state["log"] + self._rng.normal(0, fresh)
            factor *= math.exp(state["log"])
            phase = self.now + self._begin
            factor *= 1 + noise.feels * self._switching * (phase // self._switching_seconds % 2)
            factor *= 1 + noise.feels * self._wave * math.sin(2 * math.pi * phase / self._wave_seconds)
            for _ in range(steps):
                if state["steps"] == fails_at:
                    raise RuntimeError(f"{name} failed")
                cost = step_seconds(state["steps"]) if callable(step_seconds) else step_seconds
                slowed = 1 + self._drift * min(1.0, self.now / self._drift_seconds)
                self.now += cost * factor * slowed
                state["skipped"] += skips(state["steps"])
                state["steps"] += 1

        return Arm(name, run, lambda: state["skipped"])

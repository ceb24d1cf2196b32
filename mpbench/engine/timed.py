"""The arms of a group while they are timed, and what is seen then: the GPU's readings, energy, others on the CPU."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from mpbench.engine.building import explained
from mpbench.engine.energy import Energy, measure_energy
from mpbench.engine.interleave import Arm, Measurement, Plan, Progress
from mpbench.engine.plan import GroupPlan
from mpbench.engine.step import Step
from mpbench.engine.telemetry import Readings, Telemetry, open_telemetry
from mpbench.errors import described
from mpbench.system import machine


@dataclass
class Timed:
    """The arms of a group, timed interleaved, with the GPU's readings where it has any.

    Attributes:
        steps: by arm.
        plan: of the group.
        progress: takes one line.
        gpus: that each arm runs on, a number.
        telemetry: of the first so many GPUs: what an idle one does, and uses, is not a step's.
        arms: as they are measured.
        readings: of the GPU after each arm's rounds, where it says anything.
        measurement: of the arms.
        skipped_steps: by arm, from when it was built until it was first timed.
    """

    steps: Mapping[str, Step]
    plan: GroupPlan
    progress: Progress
    gpus: Mapping[str, int]
    telemetry: Mapping[int, Telemetry | None]
    arms: Sequence[Arm]
    readings: Mapping[str, Readings]
    measurement: Measurement
    skipped_steps: Mapping[str, int]
    _seconds: float = 0.0
    _others_seconds: float | None = 0.0

    @classmethod
    def open(
        cls,
        steps: Mapping[str, Step],
        plan: GroupPlan,
        stack: ExitStack,
        progress: Progress,
        agree: Callable[[float], float],
    ) -> Timed:
        """With the GPU's telemetry, which `stack` closes."""
        device = next(iter(plan.members.values())).spec.device
        gpus = {name: max(step.spec.replicas // plan.cluster.workers, 1) for name, step in steps.items()}
        of = {count: stack.enter_context(open_telemetry(device, count)) for count in sorted(set(gpus.values()))}
        readings = {name: Readings(telemetry) for name in steps if (telemetry := of[gpus[name]])}
        arms = [
            Arm(
                name,
                _telling(step, name, progress) if plan.cluster.workers > 1 else step.run,
                step.skipped_steps,
                step.spec.batch_size,
                throttled=readings[name].take if name in readings else lambda: False,
            )
            for name, step in steps.items()
        ]
        members = plan.members
        measurement = Measurement(
            arms,
            Plan(plan.profile.max_seconds, plan.profile.tolerance),
            baseline={name: one.baseline for name, one in members.items() if one.baseline},
            references={name: one.reference for name, one in members.items() if one.reference},
            agree=agree,
            progress=progress,
        )
        skipped = {name: step.skipped_steps() for name, step in steps.items()}
        return cls(steps, plan, progress, gpus, of, arms, readings, measurement, skipped)

    def visit(self, after_others: bool) -> None:
        """Measure for a while, and see what others use of the CPU meanwhile."""
        before, began = machine.others_cpu_seconds(), time.monotonic()
        self.measurement.visit(after_others)
        after, seconds = machine.others_cpu_seconds(), time.monotonic() - began
        self._seconds += seconds
        known = None not in (before, after, self._others_seconds)
        self._others_seconds = self._others_seconds + max(after - before, 0.0) if known else None  # type: ignore[operator]

    @property
    def others_cpu_share(self) -> float | None:
        """As in CaseRecord."""
        return others_share(0.0, self._others_seconds, self._seconds)

    def energy(self, measured: Collection[str]) -> dict[str, dict[str, Any]]:
        """Fields of the records that energy passes give, by arm; none where nothing counts it."""
        if self.plan.cluster.workers > 1 or not self.plan.energy:
            return {}  # they would not run passes of the same number of steps
        found: dict[str, Energy] = {}
        for count, telemetry in self.telemetry.items():
            if telemetry:
                found |= measure_energy(
                    [arm for arm in self.arms if arm.name in measured and self.gpus[arm.name] == count],
                    {name: one.steps_per_round for name, one in self.measurement.series.items()},
                    telemetry.joules,
                    utilisation_percent=telemetry.utilisation_percent,
                    progress=self.progress,
                )
        return {
            name: {
                "joules_per_step": one.joules_per_step,
                "joules_spread": one.spread,
                "utilisation_percent": one.utilisation_percent,
            }
            for name, one in found.items()
        }


def _telling(step: Step, name: str, progress: Progress) -> Callable[[int], None]:
    """A step's `run` that says at once why it fails: the other workers may be waiting in theirs for this one."""

    def run(steps: int) -> None:
        try:
            step.run(steps)
        except Exception as error:
            progress(f"{name}: {described(explained(error, step.spec.device, step.spec.size))}")
            raise

    return run


def others_share(before: float | None, after: float | None, seconds: float) -> float | None:
    """Of all cores' time, what others used, from two readings of `device.others_cpu_seconds`, so many seconds apart."""
    if before is None or after is None or not seconds:
        return None
    return round(max(after - before, 0.0) / (seconds * (os.cpu_count() or 1)), 4)

"""One group from beginning to end: build its arms, measure them interleaved, check them, write their records."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np

from mpbench.config.profiles import LARGEST_BATCH
from mpbench.engine import device as devices
from mpbench.engine.building import build, explained
from mpbench.engine.distribution import agreement
from mpbench.engine.energy import Energy, measure_energy
from mpbench.engine.interleave import Arm, Plan, Series, measure
from mpbench.engine.interrupts import held_interrupts
from mpbench.engine.largest_batch import confirm, fit
from mpbench.engine.plan import GroupPlan
from mpbench.engine.step import Step
from mpbench.engine.telemetry import Readings, Telemetry, open_telemetry
from mpbench.errors import CaseFailure, described
from mpbench.records.rounds import kept_rounds
from mpbench.records.speed import CaseRecord, Measured
from mpbench.stats.intervals import Interval
from mpbench.system import machine

Progress = Callable[[str], None]

Outcome = Measured | Exception
Profiler = Callable[[Step], Mapping[str, Any]]
"""Takes the profile of a measured step; gives the fields of its record that come of it, and raises nothing."""


def measure_group(
    plan: GroupPlan,
    progress: Progress,
    keep: Callable[[Mapping[str, Measured]], None] = lambda measured: None,
    profile: Profiler | None = None,
) -> dict[str, Outcome]:
    """Measure one group.

    Args:
        keep: called once with the arms that were measured, as soon as their times are complete: what follows (energy,
            profiles) takes seconds more, and whatever ends it must not cost them.
        profile: takes a profile of each arm after its rounds, which it would slow down; None for none.

    Returns:
        For each arm its record with its rounds, or the exception that ended it: a CaseFailure where the reason is
        known (out of memory, not finite, mostly skipped), anything else as it was raised.
    """
    agree = agreement(plan.cluster)
    began = time.monotonic()
    steps, failed, from_cache = build(plan, agree, progress)
    outcomes: dict[str, Outcome] = {**failed}
    free = [name for name, step in steps.items() if step.spec.batch_size == LARGEST_BATCH]
    for find in (fit, confirm):
        for name in [name for name in free if name in steps]:
            try:
                find(steps[name], lambda part, name=name: progress(f"{plan.label}, {name}: {part}"))  # type: ignore[misc]
            except Exception as error:
                outcomes[name] = explained(error, steps[name].spec.device, plan.members[name].spec.size)
                steps.pop(name).release()
    began = _spent(plan, "built", began)
    with ExitStack() as stack:
        stack.callback(keras.backend.clear_session)
        for step in steps.values():
            stack.callback(step.release)
        timed = _Timed.open(steps, plan, stack, lambda text: progress(f"{plan.label}: {text}"))
        series, aside = timed.run(agree)
        with held_interrupts():
            for name, step in steps.items():
                # Before any record is written: a baseline that computed nonsense must not stand under a ratio.
                series[name].error = series[name].error or _fault(step, series[name])
            for name, step in steps.items():
                fault = series[name].error
                outcomes[name] = (
                    explained(fault, step.spec.device, step.spec.size)
                    if fault
                    else _measured(name, step, series, plan, aside[name], name in from_cache)
                )
            measured = {name: one for name in steps if isinstance(one := outcomes[name], Measured)}
            keep(measured)
        if plan.compiled:
            plan.compiled.keep()
        began = _spent(plan, "measured", began)
        added = timed.energy(series, measured)
        began = _spent(plan, "energy", began)
        if profile and plan.cluster.workers == 1:  # one that fails alone would leave the others waiting in its steps
            for name in measured:
                progress(f"{plan.label}, {name}: profiling")
                added.setdefault(name, {}).update(profile(steps[name]))
        _spent(plan, "profiled", began)
        outcomes |= {
            name: Measured(replace(measured[name].record, **facts), measured[name].rounds)
            for name, facts in added.items()
        }
    return outcomes


def _spent(plan: GroupPlan, what: str, began: float) -> float:
    """Add the seconds since then to what the session has spent; returns now."""
    now = time.monotonic()
    plan.spent[what] = plan.spent.get(what, 0.0) + now - began
    if what == "built":
        plan.spent["arms"] = plan.spent.get("arms", 0) + len(plan.members)
    return now


@dataclass(frozen=True)
class _Aside:
    """What was seen of an arm while it was timed.

    Attributes:
        skipped_steps: from when it was built until it was timed.
        others_cpu_share: as in CaseRecord.
        readings: of the GPU after its rounds; None where nothing can be read.
    """

    skipped_steps: int
    others_cpu_share: float | None
    readings: Readings | None


@dataclass
class _Timed:
    """The arms of a group, timed interleaved, with the GPU's readings where it has any.

    Attributes:
        steps: by arm.
        plan: of the group.
        progress: takes one line.
        gpus: that each arm runs on, a number.
        telemetry: of the first so many GPUs: what an idle one does, and uses, is not a step's.
        arms: as they are measured.
        readings: by arm, where there are any.
    """

    steps: Mapping[str, Step]
    plan: GroupPlan
    progress: Progress
    gpus: Mapping[str, int]
    telemetry: Mapping[int, Telemetry | None]
    arms: Sequence[Arm]
    readings: Mapping[str, Readings]

    @classmethod
    def open(cls, steps: Mapping[str, Step], plan: GroupPlan, stack: ExitStack, progress: Progress) -> _Timed:
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
        return cls(steps, plan, progress, gpus, of, arms, readings)

    def run(self, agree: Callable[[float], float]) -> tuple[dict[str, Series], dict[str, _Aside]]:
        """The rounds of each arm, and what was seen meanwhile."""
        members = self.plan.members
        skipped = {name: step.skipped_steps() for name, step in self.steps.items()}
        others_before, began = machine.others_cpu_seconds(), time.monotonic()
        series = measure(
            self.arms,
            Plan(self.plan.profile.max_seconds, self.plan.profile.tolerance),
            baseline={name: one.baseline for name, one in members.items() if one.baseline},
            references={name: one.reference for name, one in members.items() if one.reference},
            agree=agree,
            progress=self.progress,
        )
        share = others_share(others_before, machine.others_cpu_seconds(), time.monotonic() - began)
        return series, {name: _Aside(count, share, self.readings.get(name)) for name, count in skipped.items()}

    def energy(self, series: Mapping[str, Series], measured: Collection[str]) -> dict[str, dict[str, Any]]:
        """Fields of the records that energy passes give, by arm; none where nothing counts it."""
        if self.plan.cluster.workers > 1 or not self.plan.energy:
            return {}  # they would not run passes of the same number of steps
        found: dict[str, Energy] = {}
        for count, telemetry in self.telemetry.items():
            if telemetry:
                found |= measure_energy(
                    [arm for arm in self.arms if arm.name in measured and self.gpus[arm.name] == count],
                    {name: one.steps_per_round for name, one in series.items()},
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


def take_first_steps(plan: GroupPlan, progress: Progress) -> None:
    """Build each arm, take its first steps and check them, without measuring: for `--benchmark-disable`.

    Raises:
        CaseFailure: the first arm that fails, where the reason is known; anything else as it was raised.
    """
    for name, member in plan.members.items():
        try:
            step = Step(member.spec, lambda part, name=name: progress(f"{plan.label}, {name}: {part}"))  # type: ignore[misc]
            step.check()
            step.release()
        except Exception as error:
            raise explained(error, member.spec.device, member.spec.size) from error
        finally:
            keras.backend.clear_session()


def _telling(step: Step, name: str, progress: Progress) -> Callable[[int], None]:
    """A step's `run` that says at once why it fails: the other workers may be waiting in theirs for this one."""

    def run(steps: int) -> None:
        try:
            step.run(steps)
        except Exception as error:
            progress(f"{name}: {described(explained(error, step.spec.device, step.spec.size))}")
            raise

    return run


def _fault(step: Step, series: Series) -> Exception | None:
    """What is wrong with an arm that was measured, if anything."""
    kept = len(series.rounds) * series.steps_per_round
    if series.skipped_steps > kept:
        return CaseFailure(
            f"loss scaling skipped {series.skipped_steps} measured steps and {kept} are left in rounds without one "
            f"(scale now {step.loss_scale():g}): a skipped step is not a training step"
        )
    try:
        step.check()
    except Exception as error:  # CaseFailure, or whatever the device raises now
        return error
    return None


def others_share(before: float | None, after: float | None, seconds: float) -> float | None:
    """Of all cores' time, what others used, from two readings of `device.others_cpu_seconds`, so many seconds apart."""
    if before is None or after is None:
        return None
    return round(max(after - before, 0.0) / (seconds * (os.cpu_count() or 1)), 4)


def _measured(
    name: str, step: Step, series_by_name: Mapping[str, Series], plan: GroupPlan, aside: _Aside, from_cache: bool
) -> Measured:
    mine, member, spec = series_by_name[name], plan.members[name], step.spec
    readings = aside.readings

    def over(other: str | None, ratio: Interval | None) -> Interval | None:
        """A ratio to another arm, unless that one was found to be wrong."""
        return ratio if ratio is not None and other is not None and not series_by_name[other].error else None

    compiling = max(step.first_run_seconds - float(np.median(mine.judged.rounds)), 0.0)
    speedup, over_reference = over(member.baseline, mine.speedup), over(member.reference, mine.over_reference)
    record = CaseRecord(
        model=spec.model,
        precision=spec.precision.name,
        phase=spec.phase,
        variant=plan.variant,
        control=member.control,
        device=spec.device.kind,
        device_name=devices.device_name(spec.device),
        profile=plan.profile.name,
        batch_size=spec.batch_size,
        image_size=spec.image_size_px,
        jit=step.jit,
        tf32=spec.precision.tf32 and devices.tf32_available(spec.device),
        parameters=step.parameters,
        images_per_second=spec.replicas * spec.batch_size / float(np.median(mine.judged.rounds)),
        first_step_seconds=step.first_step_seconds,
        loss_scale=step.loss_scale(),
        skipped_steps=mine.skipped_steps,
        warmup_skipped_steps=aside.skipped_steps + mine.warmup_skipped_steps,
        peak_memory_bytes=step.peak_memory_bytes,
        memory_kind="device" if spec.device.kind == "gpu" else "host_rss",
        warmup_rounds=mine.warmup_rounds,
        warmup_settled=mine.settled,
        rounds=len(mine.rounds),
        steps_per_round=mine.steps_per_round,
        unpaired_blocks=mine.unpaired_blocks,
        noisy=mine.noisy,
        baseline=plan.members[member.baseline].spec.precision.name if speedup and member.baseline else None,
        speedup=speedup.estimate if speedup else None,
        speedup_low=speedup.low if speedup else None,
        speedup_high=speedup.high if speedup else None,
        others_cpu_share=aside.others_cpu_share,
        point=plan.point,
        way=member.way,
        replicas=spec.replicas,
        layout=keras.config.image_data_format(),
        trace_seconds=step.trace_seconds,
        # Of a batch that was searched for, the first run was of another one.
        compile_seconds=None if member.spec.batch_size == LARGEST_BATCH else compiling,
        compile_cached=from_cache,
        reference=plan.members[member.reference].way if over_reference and member.reference else "",
        reference_ratio=over_reference.estimate if over_reference else None,
        reference_low=over_reference.low if over_reference else None,
        reference_high=over_reference.high if over_reference else None,
        throttled_blocks=",".join(map(str, mine.throttled_blocks)),
        throttled=mine.throttled,
        sm_clock_mhz=readings.sm_clock_mhz if readings else None,
        memory_clock_mhz=readings.memory_clock_mhz if readings else None,
        temperature_c=readings.temperature_c if readings else None,
        power_limited_share=readings.power_limited_share if readings else None,
    )
    return Measured(record, kept_rounds(mine.rounds))

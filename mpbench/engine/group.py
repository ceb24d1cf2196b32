"""One group from beginning to end: build its arms, measure them interleaved, check them, write their records."""

from __future__ import annotations

import gc
import os
import re
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass

import keras
import numpy as np

from mpbench.config.profiles import LARGEST_BATCH
from mpbench.engine import device as devices
from mpbench.engine.distribution import agreement
from mpbench.engine.energy import Energy, measure_energy
from mpbench.engine.interleave import ENDED_ELSEWHERE, Arm, Plan, Series, measure
from mpbench.engine.largest_batch import confirm, fit
from mpbench.engine.plan import GroupPlan, StepSpec
from mpbench.engine.step import Step, is_out_of_memory
from mpbench.engine.telemetry import Readings, open_telemetry
from mpbench.engine.tracing import without_locals
from mpbench.errors import CaseFailure, described
from mpbench.records.rounds import kept_rounds
from mpbench.records.speed import CaseRecord, Measured
from mpbench.stats.intervals import Interval
from mpbench.system import machine
from mpbench.system.device import Device

Progress = Callable[[str], None]
GIB = 2**30


Outcome = Measured | Exception


def measure_group(plan: GroupPlan, progress: Progress) -> dict[str, Outcome]:
    """Measure one group.

    Returns:
        For each arm its record with its rounds, or the exception that ended it: a CaseFailure where the reason is
        known (out of memory, not finite, mostly skipped), anything else as it was raised.
    """
    outcomes: dict[str, Outcome] = {}
    steps: dict[str, Step] = {}
    agree = agreement(plan.cluster)
    for name, member in plan.members.items():
        try:
            step = _build(name, member.spec, plan, progress)
            for other in steps.values():
                step.check_is_apart_from(other)
            steps[name] = step
        except Exception as error:  # one arm's failure must not cost the others their measurement
            outcomes[name] = known = explained(error, member.spec.device, member.spec.size)
            if plan.cluster.workers > 1:  # now: the others may be waiting in it for this one
                progress(f"{plan.label}, {name}: {described(known)}")
        if agree(float(name in outcomes)) and name in steps:
            outcomes[name] = CaseFailure(ENDED_ELSEWHERE)
            steps.pop(name).release()
        if name in outcomes:
            gc.collect()  # outside the handler: what was half built is in cycles, and in the next one's way
    free = [name for name, step in steps.items() if step.spec.batch_size == LARGEST_BATCH]
    for find in (fit, confirm):
        for name in [name for name in free if name in steps]:
            try:
                find(steps[name], lambda part, name=name: progress(f"{plan.label}, {name}: {part}"))  # type: ignore[misc]
            except Exception as error:
                outcomes[name] = explained(error, steps[name].spec.device, plan.members[name].spec.size)
                steps.pop(name).release()
    series, aside = _timed(steps, plan, agree, lambda text: progress(f"{plan.label}: {text}"))
    for name, step in steps.items():
        # Before any record is written: a baseline that computed nonsense must not stand under a ratio.
        series[name].error = series[name].error or _fault(step, series[name])
    for name, step in steps.items():
        fault = series[name].error
        outcomes[name] = (
            explained(fault, step.spec.device, step.spec.size)
            if fault
            else _measured(name, step, series, plan, aside[name])
        )
        step.release()
    keras.backend.clear_session()
    return outcomes


@dataclass(frozen=True)
class _Aside:
    """What was seen of an arm while it was timed.

    Attributes:
        skipped_steps: from when it was built until it was timed.
        others_cpu_share: as in CaseRecord.
        readings: of the GPU after its rounds; None where nothing can be read.
        energy: of passes of its own; None where nothing counts it.
    """

    skipped_steps: int
    others_cpu_share: float | None
    readings: Readings | None
    energy: Energy | None


def _timed(
    steps: Mapping[str, Step], plan: GroupPlan, agree: Callable[[float], float], progress: Progress
) -> tuple[dict[str, Series], dict[str, _Aside]]:
    """Time the arms interleaved, with the GPU's readings where it has any, and then measure their energy."""
    device = next(iter(plan.members.values())).spec.device
    gpus = {name: max(step.spec.replicas // plan.cluster.workers, 1) for name, step in steps.items()}
    with ExitStack() as stack:
        # Of those that an arm runs on: what an idle GPU does, and uses, is not a step's.
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
        skipped = {name: step.skipped_steps() for name, step in steps.items()}
        others_before, began = machine.others_cpu_seconds(), time.monotonic()
        series = measure(
            arms,
            Plan(plan.profile.max_seconds, plan.tolerance),
            baseline={name: one.baseline for name, one in plan.members.items() if one.baseline},
            references={name: one.reference for name, one in plan.members.items() if one.reference},
            agree=agree,
            progress=progress,
        )
        share = others_share(others_before, machine.others_cpu_seconds(), time.monotonic() - began)
        live = [arm for arm in arms if series[arm.name].error is None]
        energy: dict[str, Energy] = {}
        # Workers would not run passes of the same number of steps.
        for count, telemetry in of.items() if plan.cluster.workers == 1 else ():
            if telemetry:
                energy |= measure_energy(
                    [arm for arm in live if gpus[arm.name] == count],
                    {name: one.steps_per_round for name, one in series.items()},
                    telemetry.joules,
                    utilisation_percent=telemetry.utilisation_percent,
                    progress=progress,
                )
    return series, {name: _Aside(count, share, readings.get(name), energy.get(name)) for name, count in skipped.items()}


def take_first_steps(plan: GroupPlan, progress: Progress) -> None:
    """Build each arm, take its first steps and check them, without measuring: for `--benchmark-disable`.

    Raises:
        CaseFailure: the first arm that fails, where the reason is known; anything else as it was raised.
    """
    for name, member in plan.members.items():
        try:
            step = _build(name, member.spec, plan, progress)
            step.check()
            step.release()
        except Exception as error:
            raise explained(error, member.spec.device, member.spec.size) from error
        finally:
            keras.backend.clear_session()


def _build(name: str, spec: StepSpec, plan: GroupPlan, progress: Progress) -> Step:
    return Step(spec, lambda part: progress(f"{plan.label}, {name}: {part}"))


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


def _measured(name: str, step: Step, series_by_name: Mapping[str, Series], plan: GroupPlan, aside: _Aside) -> Measured:
    mine, member, spec = series_by_name[name], plan.members[name], step.spec
    readings, energy = aside.readings, aside.energy

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
        reference=plan.members[member.reference].way if over_reference and member.reference else "",
        reference_ratio=over_reference.estimate if over_reference else None,
        reference_low=over_reference.low if over_reference else None,
        reference_high=over_reference.high if over_reference else None,
        throttled_blocks=",".join(map(str, mine.throttled_blocks)),
        throttled=mine.throttled,
        sm_clock_mhz=readings.sm_clock_mhz if readings else None,
        memory_clock_mhz=readings.memory_clock_mhz if readings else None,
        temperature_c=readings.temperature_c if readings else None,
        utilisation_percent=energy.utilisation_percent if energy else None,
        power_limited_share=readings.power_limited_share if readings else None,
        joules_per_step=energy.joules_per_step if energy else None,
        joules_spread=energy.spread if energy else None,
    )
    return Measured(record, kept_rounds(mine.rounds))


def explained(error: Exception, device: Device, size: str) -> Exception:
    """A CaseFailure in place of an error whose reason is known; without the locals that hold its tensors.

    Args:
        size: of what was attempted, for people, such as `batch 64, 224 px, training`.
    """
    without_locals(error)
    if not is_out_of_memory(error):
        return error
    wanted = re.search(r"shape ?\[[\d,]*\][^ ]*(?: and type \w+)?", str(error))
    peak = devices.peak_memory_bytes(device) / GIB
    what = "allocator" if device.kind == "gpu" else "process"
    return CaseFailure(
        f"out of memory on the {device.kind} at {size}"
        f"{f', allocating a tensor of {wanted[0]}' if wanted else ''} (peak of the {what} so far {peak:.1f} GiB); "
        "the batch is never shrunk: set --mp-batch-size"
    )

"""One group from beginning to end: build its arms, measure them interleaved, check them, write their records."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import keras
import numpy as np

from mpbench import device as devices
from mpbench.errors import CaseFailure
from mpbench.measure import Arm, Plan, Series, measure
from mpbench.precision import CONTROL
from mpbench.record import CaseRecord, Measured, kept_rounds
from mpbench.settings import Profile
from mpbench.steps import Step, StepSpec, is_out_of_memory

Progress = Callable[[str], None]
GIB = 2**30


@dataclass(frozen=True)
class GroupPlan:
    """What to measure together.

    Attributes:
        label: for progress, such as `vgg16 training`.
        variant: what tells the group from another of the same model and phase; usually empty.
        point: of the sweep, as its label; usually empty.
        specs: the arms by name, in the order in which they are built.
        baseline: name of the arm that ratios refer to, or None where it is not among them.
        profile: sizes and time limit, as resolved.
        tolerance: relative half-width of the interval to reach.
    """

    label: str
    variant: str
    specs: Mapping[str, StepSpec]
    baseline: str | None
    profile: Profile
    tolerance: float
    point: str = ""


Outcome = Measured | Exception


def measure_group(plan: GroupPlan, progress: Progress) -> dict[str, Outcome]:
    """Measure one group.

    Returns:
        For each arm its record with its rounds, or the exception that ended it: a CaseFailure where the reason is
        known (out of memory, not finite, mostly skipped), anything else as it was raised.
    """
    outcomes: dict[str, Outcome] = {}
    steps: dict[str, Step] = {}
    for name, spec in plan.specs.items():
        try:
            step = _build(name, spec, plan, progress)
            for other in steps.values():
                step.check_is_apart_from(other)
            steps[name] = step
        except Exception as error:  # one arm's failure must not cost the others their measurement
            outcomes[name] = explained(error, spec.device, spec.size)
    others_before, began = devices.others_cpu_seconds(), time.monotonic()
    arms = [Arm(name, step.run, step.skipped_steps, step.spec.batch_size) for name, step in steps.items()]
    series = measure(
        arms,
        Plan(plan.profile.max_seconds, plan.tolerance),
        baseline=plan.baseline,
        progress=lambda text: progress(f"{plan.label}: {text}"),
    )
    share = others_share(others_before, devices.others_cpu_seconds(), time.monotonic() - began)
    for name, step in steps.items():
        # Before any record is written: a baseline that computed nonsense must not stand under a ratio.
        series[name].error = series[name].error or _fault(step, series[name])
    for name, step in steps.items():
        fault = series[name].error
        outcomes[name] = (
            explained(fault, step.spec.device, step.spec.size) if fault else _measured(name, step, series, plan, share)
        )
        step.release()
    keras.backend.clear_session()
    return outcomes


def take_first_steps(plan: GroupPlan, progress: Progress) -> None:
    """Build each arm, take its first steps and check them, without measuring: for `--benchmark-disable`.

    Raises:
        CaseFailure: the first arm that fails, where the reason is known; anything else as it was raised.
    """
    for name, spec in plan.specs.items():
        try:
            step = _build(name, spec, plan, progress)
            step.check()
            step.release()
        except Exception as error:
            raise explained(error, spec.device, spec.size) from error
        finally:
            keras.backend.clear_session()


def _build(name: str, spec: StepSpec, plan: GroupPlan, progress: Progress) -> Step:
    return Step(spec, lambda part: progress(f"{plan.label}, {name}: {part}"))


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
    name: str, step: Step, series_by_name: Mapping[str, Series], plan: GroupPlan, others_cpu_share: float | None
) -> Measured:
    mine = series_by_name[name]
    base = series_by_name.get(plan.baseline) if plan.baseline else None
    spec = step.spec
    speedup = mine.speedup if base and not base.error else None
    record = CaseRecord(
        model=spec.model,
        precision=spec.precision.name,
        phase=spec.phase,
        variant=plan.variant,
        control=name == CONTROL,
        device=spec.device.kind,
        device_name=devices.device_name(spec.device),
        profile=plan.profile.name,
        batch_size=spec.batch_size,
        image_size=spec.image_size_px,
        jit=step.jit,
        tf32=spec.precision.tf32 and devices.tf32_available(spec.device),
        parameters=step.parameters,
        images_per_second=spec.batch_size / float(np.median(mine.rounds)),
        first_step_seconds=step.first_step_seconds,
        loss_scale=step.loss_scale(),
        skipped_steps=mine.skipped_steps,
        warmup_skipped_steps=step.skipped_steps() - mine.skipped_steps,
        peak_memory_bytes=step.peak_memory_bytes,
        memory_kind="device" if spec.device.kind == "gpu" else "host_rss",
        warmup_rounds=mine.warmup_rounds,
        warmup_settled=mine.settled,
        rounds=len(mine.rounds),
        steps_per_round=mine.steps_per_round,
        unpaired_blocks=mine.unpaired_blocks,
        noisy=mine.noisy,
        baseline=plan.specs[plan.baseline].precision.name if speedup and plan.baseline else None,
        speedup=speedup.estimate if speedup else None,
        speedup_low=speedup.low if speedup else None,
        speedup_high=speedup.high if speedup else None,
        others_cpu_share=others_cpu_share,
        point=plan.point,
    )
    return Measured(record, kept_rounds(mine.rounds))


def explained(error: Exception, device: devices.Device, size: str) -> Exception:
    """A CaseFailure in place of an error whose reason is known; without the frames that hold its tensors.

    Args:
        size: of what was attempted, for people, such as `batch 64, 224 px, training`.
    """
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

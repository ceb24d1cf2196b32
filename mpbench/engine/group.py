"""One group from beginning to end: build its arms, measure them interleaved, check them, write their records."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import keras
import numpy as np

from mpbench.config.profiles import LARGEST_BATCH
from mpbench.engine import device as devices
from mpbench.engine.building import OutOfMemory, build, explained
from mpbench.engine.distribution import agreement
from mpbench.engine.interleave import Series
from mpbench.engine.interrupts import held_interrupts
from mpbench.engine.largest_batch import confirm, fit
from mpbench.engine.plan import GroupPlan
from mpbench.engine.step import Step
from mpbench.engine.timed import Timed
from mpbench.errors import CaseFailure, described
from mpbench.records.measured import Measured
from mpbench.records.rounds import kept_rounds
from mpbench.records.speed import BROKEN_OFF, DRIFTING, FOR_WANT_OF_TIME, CaseRecord, SpeedCase
from mpbench.stats.intervals import Interval

Progress = Callable[[str], None]

Outcome = SpeedCase | Exception
Keep = Callable[[Mapping[str, SpeedCase]], None]
Profiler = Callable[[Step], Mapping[str, Any]]
"""Takes the profile of a measured step; gives the fields of its record that come of it, and raises nothing."""


class Group:
    """One group on its way: built, measured in visits, finished.

    Args:
        plan: of the group.
        progress: takes one line.
        keep: called with the arms that are measured so far after each visit, again when their times are complete, and
            again where something has been added: whatever ends the session must not cost them.
        profile: takes a profile of each arm after its rounds, which it would slow down; None for none.
        held_bytes: resident memory of other groups, which is no part of this one's.

    Attributes:
        outcomes: for each arm that is finished its record with its rounds, or the exception that ended it: a
            CaseFailure where the reason is known (out of memory, not finite, mostly skipped), else as it was raised.
    """

    def __init__(
        self, plan: GroupPlan, progress: Progress, keep: Keep, profile: Profiler | None, held_bytes: int
    ) -> None:
        self.plan = plan
        self.outcomes: dict[str, Outcome] = {}
        self._keep = keep
        self._profile = profile
        self._progress = progress
        self._held_bytes = held_bytes
        self._failed = False
        self._stack = ExitStack()
        agree = agreement(plan.cluster)
        began = time.monotonic()
        self._steps, failed, self._from_cache = build(plan, agree, progress)
        self.outcomes.update(failed)
        self._find_batches()
        _spent(plan, "built", began)
        self._stack.callback(keras.backend.clear_session)
        for step in self._steps.values():
            self._stack.callback(step.release)
        self._timed = Timed.open(self._steps, plan, self._stack, lambda text: progress(f"{plan.label}: {text}"), agree)

    @property
    def done(self) -> bool:
        """Whether it needs no further visit."""
        return self._failed or self._timed.measurement.done

    @property
    def out_of_memory(self) -> bool:
        """Whether an arm could not be built for want of memory."""
        return any(isinstance(outcome, OutOfMemory) for outcome in self.outcomes.values())

    @property
    def peak_memory_bytes(self) -> int:
        """The largest of its steps'."""
        return max((step.peak_memory_bytes for step in self._steps.values()), default=0)

    def visit(self, after_others: bool) -> None:
        """Measure for a while; see `Measurement.visit`."""
        began = time.monotonic()
        self._timed.visit(after_others)
        if not self.done:
            with held_interrupts():
                self._keep(self._measured(self._faults(), BROKEN_OFF))
        _spent(self.plan, "measured", began)

    def finish(self) -> None:
        """Take energy and profiles of what was measured, and release it all."""
        with self._stack:
            began = time.monotonic()
            with held_interrupts():
                faults = self._faults()
                measured = self._measured(faults)
                self._keep(measured)
                for name, fault in faults.items():
                    spec = self._steps[name].spec
                    self.outcomes[name] = explained(fault, spec.device, spec.size) if fault else measured[name]
            if self.plan.compiled:
                self.plan.compiled.keep()
            began = _spent(self.plan, "measured", began)
            added = self._timed.energy(measured)
            began = _spent(self.plan, "energy", began)
            # One that fails alone would leave other workers waiting in its steps.
            if self._profile and self.plan.cluster.workers == 1:
                for name in measured:
                    self._say(name, "profiling")
                    added.setdefault(name, {}).update(self._profile(self._steps[name]))
            _spent(self.plan, "profiled", began)
            for name, facts in added.items():
                self.outcomes[name] = Measured(replace(measured[name].record, **facts), measured[name].rounds)
            self._keep({name: one for name, one in self.outcomes.items() if isinstance(one, Measured)})

    def fail(self, error: Exception) -> None:
        """End all arms that are not finished with an error, which is said, and release them."""
        self._progress(f"{self.plan.label}: ended by {described(error)}")
        for name, step in self._steps.items():
            self.outcomes.setdefault(name, explained(error, step.spec.device, step.spec.size))
        self._failed = True
        self.release()

    def release(self) -> None:
        """Give back all that it holds."""
        self._stack.close()

    def _say(self, name: str, text: str) -> None:
        self._progress(f"{self.plan.label}, {name}: {text}")

    def _find_batches(self) -> None:
        """For the arms whose batch is to be as large as fits."""
        free = [name for name, step in self._steps.items() if step.spec.batch_size == LARGEST_BATCH]
        for find in (fit, confirm):
            for name in [name for name in free if name in self._steps]:
                try:
                    find(self._steps[name], functools.partial(self._say, name))
                except Exception as error:
                    member = self.plan.members[name].spec
                    self.outcomes[name] = explained(error, member.device, member.size)
                    self._steps.pop(name).release()

    def _faults(self) -> dict[str, Exception | None]:
        """What is wrong with each arm, looked at before any record is written: a baseline that computed nonsense must
        not stand under a ratio."""
        series = self._timed.measurement.series
        return {name: series[name].error or _fault(step, series[name]) for name, step in self._steps.items()}

    def _measured(self, faults: Mapping[str, Exception | None], noisy_because: str = "") -> dict[str, SpeedCase]:
        """The records of the arms that have rounds and no fault."""
        series = self._timed.measurement.series
        return {
            name: self._record(name, faults, noisy_because)
            for name, fault in faults.items()
            if not fault and series[name].rounds
        }

    def _record(self, name: str, faults: Mapping[str, Exception | None], noisy_because: str) -> SpeedCase:
        """What was measured of an arm.

        Args:
            faults: of each arm.
            noisy_because: what ended it early, if anything did.
        """
        plan, step, timed = self.plan, self._steps[name], self._timed
        mine, member, spec = timed.measurement.series[name], plan.members[name], step.spec
        readings = timed.readings.get(name)
        if not noisy_because and mine.noisy:
            noisy_because = FOR_WANT_OF_TIME if mine.drift is None else DRIFTING

        def over(other: str | None, ratio: Interval | None) -> Interval | None:
            """A ratio to another arm, unless that one was found to be wrong."""
            return ratio if ratio is not None and other is not None and not faults[other] else None

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
            warmup_skipped_steps=timed.skipped_steps[name] + mine.warmup_skipped_steps,
            peak_memory_bytes=max(step.peak_memory_bytes - self._held_bytes, 0),
            memory_kind="device" if spec.device.kind == "gpu" else "host_rss",
            warmup_rounds=mine.warmup_rounds,
            warmup_settled=mine.settled,
            rounds=len(mine.rounds),
            steps_per_round=mine.steps_per_round,
            unpaired_blocks=mine.unpaired_blocks,
            noisy=bool(noisy_because),
            noisy_because=noisy_because,
            drift=mine.drift,
            visits=",".join(map(str, timed.measurement.visits)),
            baseline=plan.members[member.baseline].spec.precision.name if speedup and member.baseline else None,
            speedup=speedup.estimate if speedup else None,
            speedup_low=speedup.low if speedup else None,
            speedup_high=speedup.high if speedup else None,
            others_cpu_share=timed.others_cpu_share,
            point=plan.point,
            mode=member.mode,
            replicas=spec.replicas,
            layout=keras.config.image_data_format(),
            trace_seconds=step.trace_seconds,
            # Of a batch that was searched for, the first run was of another one.
            compile_seconds=None if member.spec.batch_size == LARGEST_BATCH else compiling,
            compile_cached=name in self._from_cache,
            reference=plan.members[member.reference].mode if over_reference and member.reference else "",
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


def _spent(plan: GroupPlan, what: str, began: float) -> float:
    """Add the seconds since then to what the session has spent; returns now."""
    now = time.monotonic()
    plan.spent[what] = plan.spent.get(what, 0.0) + now - began
    if what == "built":
        plan.spent["arms"] = plan.spent.get("arms", 0) + len(plan.members)
    return now


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

"""One group from beginning to end: build its arms, measure them interleaved, check them, write their records."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, replace
from typing import Any

import keras
import numpy as np

from mpbench.config.profiles import LARGEST_BATCH
from mpbench.engine import device as devices
from mpbench.engine.building import build
from mpbench.engine.distribution import agreement
from mpbench.engine.energy import measure_energy
from mpbench.engine.interleave import Arm, Measurement, Progress
from mpbench.engine.interrupts import held_interrupts
from mpbench.engine.largest_batch import confirm, fit
from mpbench.engine.memory import OutOfMemory, explained
from mpbench.engine.plan import GroupPlan
from mpbench.engine.step import Step
from mpbench.engine.stopping import Plan, Series
from mpbench.engine.telemetry import OthersOnCpu, Readings, Telemetry, open_telemetry
from mpbench.errors import CaseFailure, described
from mpbench.records.measured import Measured
from mpbench.records.rounds import kept_rounds
from mpbench.records.speed import BROKEN_OFF, DRIFTING, FOR_WANT_OF_TIME, SpeedCase, SpeedRecord
from mpbench.stats.intervals import Interval

Outcome = SpeedCase | Exception
Keep = Callable[[Mapping[str, SpeedCase]], None]
Profiler = Callable[[Step], Mapping[str, Any]]
"""Takes the profile of a measured step; gives the fields of its record that come of it, and raises nothing."""


class Group:
    """One group on its way: built, measured in visits, finished.

    Args:
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
        with self._spending("built"):
            self._steps, failed, self._from_cache = build(plan, agree, progress)
            self.outcomes.update(failed)
            self._find_batches()
        plan.spent["arms"] += len(plan.members)
        self._stack.callback(keras.backend.clear_session)
        for step in self._steps.values():
            self._stack.callback(step.release)
        self._unmeasured_skips = {name: step.skipped_steps() for name, step in self._steps.items()}
        self._others = OthersOnCpu()
        self._readings: dict[str, Readings] = {}
        telemetry = functools.cache(lambda gpus: self._stack.enter_context(open_telemetry(plan.device, gpus)))
        self._arms = [self._arm(name, step, telemetry) for name, step in self._steps.items()]
        limits = Plan(plan.profile.max_seconds, plan.profile.tolerance)
        self._measurement = Measurement(self._arms, limits, agree=agree, progress=self._tell)

    def _arm(self, name: str, step: Step, telemetry: Callable[[int], Telemetry | None]) -> Arm:
        """As it is measured, with readings of the GPUs that it uses: what an idle one does is not a step's."""
        member, readings = self.plan.members[name], None
        if of_gpus := telemetry(max(step.spec.replicas // self.plan.cluster.workers, 1)):
            readings = self._readings[name] = Readings(of_gpus)
        return Arm(
            name,
            step.run,
            step.skipped_steps,
            step.spec.batch_size,
            throttled=readings.take if readings else lambda: False,
            baseline=member.baseline,
            reference=member.reference,
        )

    @property
    def done(self) -> bool:
        """Whether it needs no further visit."""
        return self._failed or self._measurement.done

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
        with self._spending("measured"):
            with self._others.watched():
                self._measurement.visit(after_others)
            if not self.done:
                with held_interrupts():
                    self._keep(self._measured(self._faults(), BROKEN_OFF))

    def finish(self) -> None:
        """Take energy and profiles of what was measured, and release it all."""
        with self._stack:
            with self._spending("measured"):
                with held_interrupts():
                    faults = self._faults()
                    measured = self._measured(faults)
                    self._keep(measured)
                    for name, fault in faults.items():
                        self.outcomes[name] = self._explained(fault, name) if fault else measured[name]
                if self.plan.compiled:
                    self.plan.compiled.keep()
            # Steps of one machine alone would wait for those of the others.
            alone = self.plan.cluster.workers == 1
            added: dict[str, dict[str, Any]] = {name: {} for name in measured}
            with self._spending("energy"):
                if alone and self.plan.energy:
                    self._add_energy(added)
            with self._spending("profiled"):
                if alone and self._profile:
                    for name in measured:
                        self._say(name, "profiling")
                        added[name].update(self._profile(self._steps[name]))
            for name, facts in added.items():
                self.outcomes[name] = replace(measured[name], record=replace(measured[name].record, **facts))
            self._keep({name: one for name, one in self.outcomes.items() if isinstance(one, Measured)})

    def fail(self, error: Exception) -> None:
        """End all arms that are not finished with an error, which is told, and release them."""
        self._tell(f"ended by {described(error)}")
        for name in self._steps:
            self.outcomes.setdefault(name, self._explained(error, name))
        self._failed = True
        self.release()

    def release(self) -> None:
        """Give back all that it holds."""
        self._stack.close()

    def _tell(self, text: str) -> None:
        self._progress(f"{self.plan.label}: {text}")

    def _say(self, name: str, text: str) -> None:
        self._progress(f"{self.plan.label}, {name}: {text}")

    def _explained(self, error: Exception, name: str) -> Exception:
        spec = self._steps[name].spec
        return explained(error, spec.device, spec.size)

    @contextmanager
    def _spending(self, what: str) -> Iterator[None]:
        """Add the seconds inside to what the session has spent."""
        began = time.monotonic()
        yield
        self.plan.spent[what] += time.monotonic() - began

    def _find_batches(self) -> None:
        """For the arms whose batch is to be as large as fits."""
        free = [name for name, step in self._steps.items() if step.spec.batch_size == LARGEST_BATCH]
        for find in (fit, confirm):
            for name in [name for name in free if name in self._steps]:
                try:
                    find(self._steps[name], functools.partial(self._say, name))
                except Exception as error:
                    self.outcomes[name] = self._explained(error, name)
                    self._steps.pop(name).release()

    def _faults(self) -> dict[str, Exception | None]:
        """What is wrong with each arm, looked at before any record is written: a baseline that computed nonsense must
        not stand under a ratio."""
        series = self._measurement.series
        return {name: series[name].error or _fault(step, series[name]) for name, step in self._steps.items()}

    def _add_energy(self, added: Mapping[str, dict[str, Any]]) -> None:
        """Add what energy passes of these arms give to the fields of their records; nothing where nothing counts it."""
        steps_per_round = {name: one.steps_per_round for name, one in self._measurement.series.items()}
        for telemetry in dict.fromkeys(readings.telemetry for readings in self._readings.values()):
            arms = [arm for arm in self._arms if arm.name in added and self._readings[arm.name].telemetry is telemetry]
            found = measure_energy(
                arms, steps_per_round, telemetry.joules, telemetry.utilisation_percent, progress=self._tell
            )
            for name, energy in found.items():
                added[name].update(asdict(energy))

    def _measured(self, faults: Mapping[str, Exception | None], noisy_because: str = "") -> dict[str, SpeedCase]:
        """The records of the arms that have rounds and no fault; `noisy_because` says what ended them early."""
        series, wrong = self._measurement.series, {name for name, fault in faults.items() if fault}
        return {
            name: self._record(name, wrong, noisy_because)
            for name in self._steps
            if name not in wrong and series[name].rounds
        }

    def _record(self, name: str, wrong: Collection[str], noisy_because: str) -> SpeedCase:
        """What was measured of an arm; no ratio refers to those that are wrong."""
        plan, step = self.plan, self._steps[name]
        mine, member, spec = self._measurement.series[name], plan.members[name], step.spec
        if not noisy_because and mine.noisy:
            noisy_because = FOR_WANT_OF_TIME if mine.drift is None else DRIFTING
        step_seconds = float(np.median(mine.judged.rounds))
        compile_seconds = max(step.first_run_seconds - step_seconds, 0.0)
        speedup = None if member.baseline in wrong else mine.speedup
        over_reference = None if member.reference in wrong else mine.over_reference
        record = SpeedRecord(
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
            images_per_second=spec.replicas * spec.batch_size / step_seconds,
            first_step_seconds=step.trace_seconds + step.first_run_seconds,
            loss_scale=step.loss_scale(),
            skipped_steps=mine.skipped_steps,
            warmup_skipped_steps=self._unmeasured_skips[name] + mine.warmup_skipped_steps,
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
            visits=",".join(map(str, self._measurement.visits)),
            data=step.batch.label,
            baseline=plan.members[member.baseline].spec.precision.name if speedup and member.baseline else None,
            **_with_limits("speedup", "speedup", speedup),
            others_cpu_share=self._others.share,
            point=plan.point,
            mode=member.mode,
            replicas=spec.replicas,
            layout=keras.config.image_data_format(),
            trace_seconds=step.trace_seconds,
            # Of a batch that was searched for, the first run was of another one.
            compile_seconds=None if member.spec.batch_size == LARGEST_BATCH else compile_seconds,
            compile_cached=name in self._from_cache,
            reference=plan.members[member.reference].mode if over_reference and member.reference else "",
            **_with_limits("reference_ratio", "reference", over_reference),
            throttled_blocks=",".join(map(str, mine.throttled_blocks)),
            throttled=mine.throttled,
            **(self._readings[name].summary() if name in self._readings else {}),
        )
        return Measured(record, kept_rounds(mine.rounds))


def _with_limits(name: str, prefix: str, interval: Interval | None) -> dict[str, Any]:
    """The three fields of a ratio; None in each where there is none."""
    values = (interval.estimate, interval.low, interval.high) if interval else (None, None, None)
    return dict(zip((name, f"{prefix}_low", f"{prefix}_high"), values, strict=True))


def take_first_steps(plan: GroupPlan, progress: Progress) -> None:
    """Build each arm, which takes its first steps, and check them, without measuring: for `--benchmark-disable`.

    Raises:
        CaseFailure: the first arm that fails, where the reason is known; anything else as it was raised.
    """
    steps, failed, _ = build(plan, lambda mine: mine, progress)
    for error in failed.values():
        raise error
    for step in steps.values():
        step.check()
        step.release()
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

"""What saved runs hold of each step: its cases, its input, its device's peaks; figures of two settings never meet.

What belongs here: what must agree, and which of two figures counts. Pure: from `records.runs.SavedRun` to StepRecords.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TypeVar, cast

from mpbench.config.precisions import DEFAULT_BASELINE, PRECISIONS
from mpbench.records.comparable import STEP_SETTINGS, configuration, differences, settings
from mpbench.records.diagnostics import DiagnosticRecord, EndToEndRecord, InputRecord, PeakRecord
from mpbench.records.measured import Measured
from mpbench.records.runs import SavedRun
from mpbench.records.speed import PHASES, SpeedCase, SpeedRecord
from mpbench.why.reading.breakdown import breakdown_of
from mpbench.why.reading.input_verdict import InputFinding, InputTimes, InputVerdict, input_finding
from mpbench.why.reading.roofline import Peaks, Roof, allowed, peaks_of, roofs
from mpbench.why.reading.verdict import ProfiledArm, verdict

D = TypeVar("D", bound=DiagnosticRecord)


@dataclass(frozen=True)
class Setting:
    """What must agree before figures are of one step: STEP_SETTINGS, and of which step; as in SpeedRecord. `variant` is
    without a sweep's point."""

    model: str
    variant: str
    phase: str
    device: str
    device_name: str
    batch_size: int
    image_size: int
    jit: bool
    replicas: int

    @classmethod
    def of(cls, r: SpeedRecord | DiagnosticRecord) -> Setting:
        variant = r.variant.removesuffix(r.point).strip() if isinstance(r, SpeedRecord) else ""
        return cls(r.model, variant, r.phase, **settings(r, STEP_SETTINGS))

    @property
    def step(self) -> str:
        return f"{' '.join(filter(None, [self.model, self.variant]))}, {self.phase}"

    @property
    def where(self) -> str:
        device = "a CPU" if self.device == "cpu" else self.device_name
        replicas = f", {self.replicas} replicas" if self.replicas > 1 else ""
        size = f"batch {self.batch_size}, {self.image_size}x{self.image_size} px"
        return f"{device}{replicas}, {size}, XLA {'on' if self.jit else 'off'}"


@dataclass
class StepRecords:
    """All records of one step, and what follows from them.

    Attributes:
        setting: all records agree in it.
        cases: by precision, each with the number of its run.
        end_to_end: by precision, then by input, `device` and `pipeline`.
        pipelines, peaks: of this input and this device.
        compiled: the same step with XLA, where it was measured too.
        batches: images per second of other batches in a sweep, by precision and batch.
    """

    setting: Setting
    cases: dict[str, tuple[SpeedCase, int]] = field(default_factory=dict)
    end_to_end: dict[str, dict[str, Measured[EndToEndRecord]]] = field(default_factory=dict)
    pipelines: Sequence[Measured[InputRecord]] = ()
    peaks: Peaks = field(default_factory=Peaks)
    compiled: StepRecords | None = None
    batches: dict[str, dict[int, float]] = field(default_factory=dict)

    @property
    def is_explained(self) -> bool:
        return bool(self.arms or self.inputs)

    @cached_property
    def baseline(self) -> str:
        """The precision that speedups refer to; empty if there is none."""
        named = {case.record.baseline for case, _ in self.cases.values()} - {None}
        measured = {**self.cases, **self.end_to_end}
        return str(named.pop()) if len(named) == 1 else DEFAULT_BASELINE if DEFAULT_BASELINE in measured else ""

    @cached_property
    def arms(self) -> list[ProfiledArm]:
        """The precisions with a profile, the baseline first, the first half precision last: the verdict is on it."""
        found = []
        for name, (case, run) in self.cases.items():
            if breakdown := breakdown_of(case):
                beside, its_run = self.compiled.cases.get(name, (None, run)) if self.compiled else (None, run)
                compiled = beside.median_seconds if beside and its_run == run else None
                batches = self.batches.get(name, {})
                found.append(ProfiledArm(name, breakdown, compiled, batches, self.setting.batch_size, case.record))
        judged = next((arm for arm in found if arm.half and arm.name != self.baseline), None)
        return sorted(found, key=lambda arm: (arm.name != self.baseline, arm is judged))

    @cached_property
    def base(self) -> ProfiledArm | None:
        """The baseline's arm; None if it was not profiled beside the judged one."""
        return next((arm for arm in self.arms[:-1] if arm.name == self.baseline), None)

    @cached_property
    def roofs(self) -> dict[str, dict[str, Roof]]:
        """By precision and row."""
        dtypes = {name: precision.compute_dtype for name, precision in PRECISIONS.items()}
        return {arm.name: roofs(arm.breakdown, dtypes.get(arm.name, ""), arm.tf32, self.peaks) for arm in self.arms}

    @cached_property
    def allowed_seconds(self) -> dict[str, float]:
        """By precision, at the roofs; of those in which all is known."""
        found = {arm.name: allowed(arm.breakdown, self.roofs[arm.name]) for arm in self.arms}
        return {name: seconds for name, seconds in found.items() if seconds}

    @cached_property
    def inputs(self) -> dict[str, InputFinding]:
        """What was found about the input, by precision."""
        times = {name: found for name in self.end_to_end if (found := self._end_to_end_times(name))}
        if self.pipelines:
            alone, batch = self.pipelines[-1].median_seconds, self.setting.batch_size
            for name, (case, _) in self.cases.items():
                if name not in self.end_to_end:
                    times[name] = InputTimes(case.median_seconds, alone, None, batch)
        base = {name: times.get(self.baseline) if name != self.baseline else None for name in times}
        return {name: input_finding(name, one, base[name]) for name, one in times.items()}

    def _end_to_end_times(self, precision: str) -> InputTimes | None:
        steps = self.end_to_end[precision]
        if not {"device", "pipeline"} <= set(steps):
            return None
        facts = [getattr(steps["pipeline"].record, name) for name in ("workers", "cache", "data")]
        alone = [
            one.median_seconds
            for one in self.pipelines
            if [one.record.workers, one.record.cache, one.record.data] == facts
        ]
        device, whole = steps["device"].median_seconds, steps["pipeline"].median_seconds
        return InputTimes(device, alone[-1] if alone else None, whole, self.setting.batch_size)

    @cached_property
    def verdict(self) -> list[str]:
        """The sentences, the input's first where the step waits for it."""
        judged = self.inputs.get(self.arms[-1].name if self.arms else next(reversed(self.inputs), ""))
        waits = judged is not None and judged.verdict is InputVerdict.INPUT_BOUND
        first = [f"{judged.verdict.value.upper()}: {judged.sentence}."] if judged and waits else []
        if self.arms:
            return verdict(self.arms[-1], self.base, first)
        return first or ([f"{judged.sentence[:1].upper()}{judged.sentence[1:]}."] if judged else [])

    @property
    def unprofiled(self) -> list[str]:
        """A line for each case without a profile, with the reason where one was asked for."""
        without = {
            name: case.record.no_step_profile for name, (case, _) in self.cases.items() if not breakdown_of(case)
        }
        return [f"{name} has no profile{f': {why}' if why else ''}" for name, why in without.items()]


@dataclass(frozen=True)
class MatchedRuns:
    """The steps that some runs hold.

    Attributes:
        steps: grouped by model.
        left_out: a line for each run, or step, that is left out.
        remarks: further lines that a reader must know.
    """

    steps: list[StepRecords]
    left_out: list[str]
    remarks: list[str]

    @property
    def notes(self) -> list[str]:
        return [*(f"left out: {line}" for line in self.left_out), *self.remarks]


def matched(runs: Sequence[SavedRun]) -> MatchedRuns:
    """The steps in some runs.

    Args:
        runs: at least one; the first decides the machine. If two hold the same case, the later counts.
    """
    kept, left_out = _of_one_machine(runs)
    steps: dict[Setting, StepRecords] = {}
    diagnostics: dict[str, Measured[DiagnosticRecord]] = {}
    swept: dict[Setting, dict[str, dict[int, float]]] = {}
    for number, run in enumerate(kept):
        diagnostics |= run.diagnostics
        for case in run.speed.values():
            r = case.record
            if r.control:
                continue
            setting = Setting.of(r)
            steps.setdefault(setting, StepRecords(setting)).cases[r.precision] = case, number
            if r.point.startswith("batch="):
                rates = swept.setdefault(replace(setting, batch_size=0), {}).setdefault(r.precision, {})
                rates[r.batch_size] = r.images_per_second
    for step in _of_type(EndToEndRecord, diagnostics.values()):
        setting = Setting.of(step.record)
        end_to_end = steps.setdefault(setting, StepRecords(setting)).end_to_end
        end_to_end.setdefault(step.record.precision, {})[step.record.input] = step
    pipelines = _of_type(InputRecord, diagnostics.values())
    peaks = _of_type(PeakRecord, diagnostics.values())
    for setting, records in steps.items():
        records.compiled = None if setting.jit else steps.get(replace(setting, jit=True))
        records.batches = swept.get(replace(setting, batch_size=0), {})
        device, size = (setting.device, setting.device_name), (setting.batch_size, setting.image_size)
        records.peaks = peaks_of(one for one in peaks if (one.record.device, one.record.device_name) == device)
        records.pipelines = [one for one in pipelines if (one.record.batch_size, one.record.image_size) == size]
    models = list(dict.fromkeys(setting.model for setting in steps))
    explained = [step for step in steps.values() if step.is_explained]
    explained.sort(key=lambda step: (models.index(step.setting.model), _order(step.setting.phase)))
    remarks = []
    if len({(run.commit, run.dirty) for run in kept}) > 1:
        remarks.append("the runs are of different commits: a model may have changed between them")
    return MatchedRuns(explained, [*left_out, *_not_explained(steps.values())], remarks)


def _of_one_machine(runs: Sequence[SavedRun]) -> tuple[list[SavedRun], list[str]]:
    """The runs whose figures may stand together, oldest first, and a line for each that may not."""
    first, kept, left_out = runs[0], [runs[0]], []
    for run in runs[1:]:
        if differing := differences(configuration(first.facts), configuration(run.facts)):
            left_out.append(f"{run.path}: measured elsewhere than {first.path}: {', '.join(map(str, differing))}")
        else:
            kept.append(run)
    return sorted(kept, key=lambda run: run.time), left_out


def _not_explained(steps: Iterable[StepRecords]) -> list[str]:
    lines: dict[str, list[str]] = {}
    for step in steps:
        if not step.is_explained:
            why = next((case.record.no_step_profile for case, _ in step.cases.values()), "")
            what = f"{step.setting.step}: no profile{f' ({why})' if why else ''}"
            lines.setdefault(what, []).append(step.setting.where)
    return [f"{what}; {'; '.join(where)}" for what, where in lines.items()]


def _of_type(record_type: type[D], cases: Iterable[Measured[DiagnosticRecord]]) -> list[Measured[D]]:
    return [cast("Measured[D]", case) for case in cases if isinstance(case.record, record_type)]


def _order(phase: str) -> int:
    return PHASES.index(phase) if phase in PHASES else len(PHASES)

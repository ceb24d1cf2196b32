"""What saved runs hold of each step: its cases, its input, its device's peaks; figures of two settings never meet.

What belongs here: what must agree, and which of two figures counts. Pure: from `records.runs.SavedRun` to Arms.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from mpbench.config.precisions import DEFAULT_BASELINE, PRECISIONS
from mpbench.records.comparable import STEP_SETTINGS, configuration, differences, settings
from mpbench.records.diagnostics import DiagnosticRecord, EndToEndRecord, InputRecord, PeakRecord
from mpbench.records.measured import Measured
from mpbench.records.runs import SavedRun
from mpbench.records.speed import CaseRecord, SpeedCase
from mpbench.why.reading.breakdown import breakdown_of
from mpbench.why.reading.input_verdict import (
    INPUT_BOUND,
    EndToEnd,
    Judged,
    judged,
    judged_without_feeding,
    judged_without_pipeline,
)
from mpbench.why.reading.roofline import Peaks, Roof, allowed, peaks_of, roofs
from mpbench.why.reading.verdict import Arm, verdict

PHASES = ("training", "inference")


@dataclass(frozen=True)
class Setting:
    """What must agree before figures are of one step: STEP_SETTINGS, and of which step; as in CaseRecord. `variant` is
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
    def of(cls, r: CaseRecord | DiagnosticRecord) -> Setting:
        variant = r.variant.removesuffix(r.point).strip() if isinstance(r, CaseRecord) else ""
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
class Step:
    """What there is of one step.

    Attributes:
        setting: that all of it agrees in.
        cases: by precision, each with the number of its run.
        end_to_end: by precision, then by input, `device` and `pipeline`.
        pipelines, peaks: of this input and this device.
        compiled: the same step with XLA, where it was measured too.
        batches: images per second of other batches in a sweep, by precision and batch.
    """

    setting: Setting
    cases: dict[str, tuple[SpeedCase, int]] = field(default_factory=dict)
    end_to_end: dict[str, dict[str, Measured[DiagnosticRecord]]] = field(default_factory=dict)
    pipelines: Sequence[Measured[DiagnosticRecord]] = ()
    peaks: Peaks = field(default_factory=Peaks)
    compiled: Step | None = None
    batches: dict[str, dict[int, float]] = field(default_factory=dict)

    @property
    def is_explained(self) -> bool:
        return bool(self.arms or self.inputs)

    @cached_property
    def baseline(self) -> str:
        """That speedups refer to; empty where there is none."""
        named = {case.record.baseline for case, _ in self.cases.values()} - {None}
        measured = {**self.cases, **self.end_to_end}
        return str(named.pop()) if len(named) == 1 else DEFAULT_BASELINE if DEFAULT_BASELINE in measured else ""

    @cached_property
    def arms(self) -> list[Arm]:
        """The precisions with a profile, the baseline first, the first half precision last: the verdict is on it."""
        found = []
        for name, (case, run) in self.cases.items():
            if breakdown := breakdown_of(case):
                beside, of_run = self.compiled.cases.get(name, (None, run)) if self.compiled else (None, run)
                compiled = beside.median_seconds if beside and of_run == run else None
                found.append(
                    Arm(name, breakdown, compiled, self.batches.get(name, {}), self.setting.batch_size, case.record)
                )
        judged = next((arm for arm in found if arm.half and arm.name != self.baseline), None)
        return sorted(found, key=lambda arm: (arm.name != self.baseline, arm is judged))

    @cached_property
    def base(self) -> Arm | None:
        """The baseline's arm, beside the one that the verdict is on."""
        return next((arm for arm in self.arms[:-1] if arm.name == self.baseline), None)

    @cached_property
    def roofs(self) -> dict[str, dict[str, Roof]]:
        """By precision and row."""
        return {arm.name: roofs(arm.breakdown, _dtype(arm.name), arm.tf32, self.peaks) for arm in self.arms}

    @cached_property
    def allowed_seconds(self) -> dict[str, float]:
        """By precision, at the roofs; of those in which all is known."""
        found = {arm.name: allowed(arm.breakdown, self.roofs[arm.name]) for arm in self.arms}
        return {name: seconds for name, seconds in found.items() if seconds}

    @cached_property
    def inputs(self) -> dict[str, Judged]:
        """The verdict on the input, by precision."""
        end_to_end = {name: self._end_to_end(name) for name in self.end_to_end}
        said = {}
        for name, of in end_to_end.items():
            if isinstance(of, EndToEnd):
                base = end_to_end.get(self.baseline)
                said[name] = judged(name, of, base if isinstance(base, EndToEnd) and name != self.baseline else None)
            elif of:
                said[name] = judged_without_pipeline(name, *of)
        for name, (case, _) in self.cases.items():
            if name not in self.end_to_end and self.pipelines:
                alone, batch = self.pipelines[-1].median_seconds, self.setting.batch_size
                said[name] = judged_without_feeding(name, case.median_seconds, alone, batch)
        return said

    def _end_to_end(self, precision: str) -> EndToEnd | tuple[float, float] | None:
        steps = self.end_to_end[precision]
        if not {"device", "pipeline"} <= set(steps):
            return None
        device, whole = steps["device"].median_seconds, steps["pipeline"].median_seconds
        alone = [one.median_seconds for one in self.pipelines if _pipeline(one) == _pipeline(steps["pipeline"])]
        return EndToEnd(device, alone[-1], whole, self.setting.batch_size) if alone else (device, whole)

    @cached_property
    def verdict(self) -> list[str]:
        """The sentences, the input's first where the step waits for it."""
        last = self.arms[-1].name if self.arms else next(reversed(self.inputs), "")
        of = self.inputs.get(last)
        first = [f"{INPUT_BOUND.upper()}: {of.sentence}."] if of and of.verdict == INPUT_BOUND else []
        if not self.arms:
            return first or ([f"{of.sentence[:1].upper()}{of.sentence[1:]}."] if of else [])
        return verdict(self.arms[-1], self.base, first)

    @property
    def unprofiled(self) -> list[str]:
        """A line for each case without a profile, with the reason where one was asked for."""
        said = {name: case.record.no_step_profile for name, (case, _) in self.cases.items() if not breakdown_of(case)}
        return [f"{name} has no profile{f': {why}' if why else ''}" for name, why in said.items()]


def matched(runs: Sequence[SavedRun]) -> tuple[list[Step], list[str]]:
    """The steps in some runs, those of one model together; and a line for each thing that is left out.

    Args:
        runs: at least one; the first says on what machine. Of what two of them hold the later counts.
    """
    runs, notes = _of_one_machine(runs)
    steps: dict[Setting, Step] = {}
    diagnostics: dict[str, Measured[DiagnosticRecord]] = {}
    swept: dict[Setting, dict[str, dict[int, float]]] = {}
    for number, run in enumerate(runs):
        diagnostics |= run.diagnostics
        for case in run.speed.values():
            r = case.record
            if r.control:
                continue
            setting = Setting.of(r)
            steps.setdefault(setting, Step(setting)).cases[r.precision] = case, number
            if r.point.startswith("batch="):
                of = swept.setdefault(replace(setting, batch_size=0), {}).setdefault(r.precision, {})
                of[r.batch_size] = r.images_per_second
    for diagnostic in diagnostics.values():
        if isinstance(diagnostic.record, EndToEndRecord):
            setting = Setting.of(diagnostic.record)
            end_to_end = steps.setdefault(setting, Step(setting)).end_to_end
            end_to_end.setdefault(diagnostic.record.precision, {})[diagnostic.record.input] = diagnostic
    for setting, step in steps.items():
        step.compiled = None if setting.jit else steps.get(replace(setting, jit=True))
        step.batches = swept.get(replace(setting, batch_size=0), {})
        step.peaks = peaks_of(one for one in diagnostics.values() if _is_peak(one, setting))
        step.pipelines = [one for one in diagnostics.values() if _is_pipeline(one, setting)]
    models = list(dict.fromkeys(setting.model for setting in steps))
    explained = [step for step in steps.values() if step.is_explained]
    explained.sort(key=lambda step: (models.index(step.setting.model), _order(step.setting.phase)))
    return explained, [*notes, *_left_out(steps.values())]


def _of_one_machine(runs: Sequence[SavedRun]) -> tuple[list[SavedRun], list[str]]:
    """The runs whose figures may stand together, oldest first, and a line for each that may not."""
    first, kept, notes = runs[0], [runs[0]], []
    for run in runs[1:]:
        if differing := differences(configuration(first.facts), configuration(run.facts)):
            elsewhere = f"measured elsewhere than {first.path}: {', '.join(map(str, differing))}"
            notes.append(f"left out: {run.path}: {elsewhere}")
        else:
            kept.append(run)
    if len({(run.commit, run.dirty) for run in kept}) > 1:
        notes.append("the runs are of different commits: a model may have changed between them")
    return sorted(kept, key=lambda run: run.time), notes


def _left_out(steps: Iterable[Step]) -> list[str]:
    lines: dict[str, list[str]] = {}
    for step in steps:
        if not step.is_explained:
            why = next((case.record.no_step_profile for case, _ in step.cases.values()), "")
            lines.setdefault(f"{step.setting.step}: no profile{f' ({why})' if why else ''}", []).append(
                step.setting.where
            )
    return [f"left out: {what}; {'; '.join(where)}" for what, where in lines.items()]


def _is_peak(diagnostic: Measured[DiagnosticRecord], setting: Setting) -> bool:
    r = diagnostic.record
    return isinstance(r, PeakRecord) and (r.device, r.device_name) == (setting.device, setting.device_name)


def _is_pipeline(diagnostic: Measured[DiagnosticRecord], setting: Setting) -> bool:
    r = diagnostic.record
    return isinstance(r, InputRecord) and (r.batch_size, r.image_size) == (setting.batch_size, setting.image_size)


def _pipeline(diagnostic: Measured[DiagnosticRecord]) -> tuple[object, ...]:
    return tuple(getattr(diagnostic.record, name) for name in ("workers", "cache", "data"))


def _dtype(precision: str) -> str:
    return PRECISIONS[precision].compute_dtype if precision in PRECISIONS else ""


def _order(phase: str) -> int:
    return PHASES.index(phase) if phase in PHASES else len(PHASES)

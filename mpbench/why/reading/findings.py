"""What saved runs hold of one model in one setting, matched: records that were measured differently never meet.

Pure: from `history.SavedRun` to figures by what they are about.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Generic, TypeAlias, TypeVar

import numpy as np

from mpbench.config.precisions import DEFAULT_BASELINE
from mpbench.records.comparable import COMPARABLE_FACTS
from mpbench.records.diagnostics import (
    FeedRecord,
    InputRecord,
    LayerRecord,
    PartRecord,
    PeakRecord,
    ProbeRecord,
    ProfileRecord,
)
from mpbench.records.rounds import blocks_of, paired
from mpbench.records.runs import SavedRun
from mpbench.records.speed import CaseRecord
from mpbench.stats.intervals import MIN_PAIRS, Interval, speedup_interval, trimmed_mean_error

Record = TypeVar("Record", bound="CaseRecord | ProbeRecord", covariant=True)


@dataclass(frozen=True)
class Figure(Generic[Record]):
    """A record with its rounds.

    Attributes:
        record: as saved.
        rounds: seconds.
        source: number of the run that it is from; only rounds of one run pair.
    """

    record: Record
    rounds: tuple[float, ...]
    source: int = 0

    @cached_property
    def seconds(self) -> float:
        """Median of the rounds."""
        return float(np.median(self.rounds))

    @property
    def blocks(self) -> list[int]:
        """Number of the block of each round, as in SavedCase."""
        return blocks_of(self.rounds, self.record.unpaired_blocks)

    @cached_property
    def doubt_seconds(self) -> float:
        """Two standard errors of the time; of a few rounds half of their range."""
        if len(self.rounds) < MIN_PAIRS:
            return (max(self.rounds) - min(self.rounds)) / 2
        return 2 * trimmed_mean_error(self.rounds)[1]


AnyFigure: TypeAlias = "Figure[CaseRecord | ProbeRecord]"


def interval_of(baseline: AnyFigure, other: AnyFigure) -> Interval | None:
    """The speedup with its interval, from rounds measured in the same blocks; None where there are too few."""
    if baseline.source != other.source:
        return None
    theirs, mine = paired(baseline, other)
    return speedup_interval(theirs, mine) if len(mine) >= MIN_PAIRS else None


@dataclass(frozen=True, order=True)
class Setting:
    """What must agree before records belong to one account; as in CaseRecord."""

    model: str
    device: str
    device_name: str
    batch_size: int
    image_size: int
    jit: bool

    @classmethod
    def of(cls, record: CaseRecord | ProbeRecord) -> Setting:
        return cls(record.model, record.device, record.device_name, record.batch_size, record.image_size, record.jit)

    def __str__(self) -> str:
        """Without the model."""
        where = "a CPU" if self.device == "cpu" else self.device_name
        return f"{where}, batch {self.batch_size}, {self.image_size}x{self.image_size} px, {xla(self.jit)}"


def xla(jit: bool) -> str:
    return f"XLA {'on' if jit else 'off'}"


@dataclass
class Findings:
    """What there is of one model in one setting.

    Attributes:
        setting: that all of it agrees in.
        speed: cases of the main matrix, by phase and precision.
        parts: of a training step, by precision and part.
        layers: by phase and precision, then by layer.
        feeds: by phase and precision, then `device` and `fed`.
        pipelines: of this batch and size.
        profiles: by phase and precision.
        peaks: of this device, with or without XLA as here.
        notes: what a reader must know of how it was put together.
    """

    setting: Setting
    speed: dict[tuple[str, str], Figure[CaseRecord]] = field(default_factory=dict)
    parts: dict[tuple[str, str], Figure[PartRecord]] = field(default_factory=dict)
    layers: dict[tuple[str, str], dict[str, Figure[LayerRecord]]] = field(default_factory=dict)
    feeds: dict[tuple[str, str], dict[str, Figure[FeedRecord]]] = field(default_factory=dict)
    pipelines: list[Figure[InputRecord]] = field(default_factory=list)
    profiles: dict[tuple[str, str], Figure[ProfileRecord]] = field(default_factory=dict)
    peaks: list[Figure[PeakRecord]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def looks_for_causes(self) -> bool:
        """Whether there is more of it than speed cases."""
        return bool(self.parts or self.layers or self.feeds or self.profiles)

    @property
    def precisions(self) -> list[str]:
        """All that anything was measured in, the baseline first, others in the order of the runs."""
        names = [precision for _, precision in (*self.speed, *self.layers, *self.feeds, *self.profiles)]
        names = list(dict.fromkeys([*names, *(precision for precision, _ in self.parts)]))
        return sorted(names, key=lambda name: name != self.baseline)

    @property
    def baseline(self) -> str | None:
        """What speedups refer to: what the speed cases do, else the default; None where that was not measured."""
        said = {figure.record.baseline for figure in self.speed.values()} - {None}
        if len(said) == 1:
            return said.pop()
        measured = {precision for _, precision in (*self.speed, *self.layers, *self.feeds, *self.profiles)}
        return DEFAULT_BASELINE if DEFAULT_BASELINE in measured | {name for name, _ in self.parts} else None


def merged(runs: Sequence[SavedRun]) -> tuple[list[SavedRun], list[str]]:
    """The runs whose figures may stand together, oldest first, and a line for each that was left out.

    Args:
        runs: at least one; the first says what the others must agree with.
    """
    first = runs[0]
    kept, notes = [first], []
    for run in runs[1:]:
        differing = [
            f"{name} {first.facts.get(name)} -> {run.facts.get(name)}"
            for name in COMPARABLE_FACTS
            if first.facts.get(name) != run.facts.get(name)
        ]
        if differing:
            notes.append(f"left out: {run.path}: measured elsewhere than {first.path}: {', '.join(differing)}")
        else:
            kept.append(run)
    if len({(run.commit, run.dirty) for run in kept}) > 1:
        notes.append("the runs are of different commits: a model may have changed between them")
    return sorted(kept, key=lambda run: run.time), notes


def matched(runs: Sequence[SavedRun]) -> tuple[list[Findings], list[str]]:
    """What the runs hold, by model and setting.

    Args:
        runs: of one machine, oldest first; of what two of them hold the later is taken.

    Returns:
        Those that hold more than speed cases, in the order of the runs, and a line for each thing that was left out.
    """
    cases = {name: Figure(c.record, c.rounds, n) for n, run in enumerate(runs) for name, c in run.cases.items()}
    probes = {
        name: Figure(one.record, tuple(one.rounds), n) for n, run in enumerate(runs) for name, one in run.probes.items()
    }
    found: dict[Setting, Findings] = {}
    for probe in probes.values():
        if probe.record.model:
            _enter(found.setdefault(Setting.of(probe.record), Findings(Setting.of(probe.record))), probe)
    for case in cases.values():
        if case.record.control or case.record.variant or case.record.replicas > 1:
            continue  # a control is the noise floor; a variant, or replicas, another experiment with the model
        of = found.setdefault(Setting.of(case.record), Findings(Setting.of(case.record)))
        _put(of, of.speed, (case.record.phase, case.record.precision), case)
    explained = [of for of in found.values() if of.looks_for_causes]
    for of in explained:
        _enter_shared(of, probes.values())
    return explained, _left_out(found.values())


def _left_out(found: Iterable[Findings]) -> list[str]:
    settings: dict[str, list[str]] = {}
    for of in found:
        if not of.looks_for_causes:
            settings.setdefault(of.setting.model, []).append(str(of.setting))
    return [f"left out: {model} ({'; '.join(of)}): only its speed was measured" for model, of in settings.items()]


def _enter(of: Findings, probe: Figure[ProbeRecord]) -> None:
    record = probe.record
    key = record.phase, record.precision
    if isinstance(record, PartRecord):
        _put(of, of.parts, (record.precision, record.part), Figure(record, probe.rounds, probe.source))
    elif isinstance(record, LayerRecord):
        layers = of.layers.setdefault(key, {})
        _put(of, layers, record.layer, Figure(record, probe.rounds, probe.source), " ".join(key))
    elif isinstance(record, FeedRecord):
        feeds = of.feeds.setdefault(key, {})
        _put(of, feeds, record.feed, Figure(record, probe.rounds, probe.source), " ".join(key))
    elif isinstance(record, ProfileRecord):
        _put(of, of.profiles, key, Figure(record, probe.rounds, probe.source))


Key = TypeVar("Key")


def _put(of: Findings, where: dict[Key, Figure[Record]], key: Key, figure: Figure[Record], context: str = "") -> None:
    if key in where:
        what = " ".join([*context.split(), *(key if isinstance(key, tuple) else [str(key)])])
        of.notes.append(f"more than one figure of {what}: the last one is taken")
    where[key] = figure


def _enter_shared(of: Findings, probes: Iterable[Figure[ProbeRecord]]) -> None:
    """Peaks and pipelines, which are of no model."""
    other_peaks: Mapping[bool, list[ProbeRecord]] = {True: [], False: []}
    for probe in probes:
        record, setting = probe.record, of.setting
        if (record.device, record.device_name) != (setting.device, setting.device_name):
            continue
        if isinstance(record, PeakRecord):
            if record.jit == setting.jit:
                of.peaks.append(Figure(record, probe.rounds, probe.source))
            else:
                other_peaks[record.jit].append(record)
        elif isinstance(record, InputRecord):
            if (record.batch_size, record.image_size) == (setting.batch_size, setting.image_size):
                of.pipelines.append(Figure(record, probe.rounds, probe.source))
            else:
                of.notes.append(
                    f"left out: the pipeline at batch {record.batch_size}, {record.image_size}x{record.image_size} px"
                )
    if not of.peaks and other_peaks[not of.setting.jit]:
        of.notes.append(f"left out: peaks, measured with {xla(not of.setting.jit)}")

"""The answer that a report opens with: does mixed precision pay here, for which model and phase, at what cost.

Pure functions from a run's records to sentences; nothing is claimed that an interval does not show.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from mpbench.records.accuracy import AccuracyRecord
from mpbench.records.runs import SavedRun
from mpbench.records.speed import CaseRecord, SpeedCase
from mpbench.report.accuracy_tables import in_words
from mpbench.report.tables import device_label, each, marks
from mpbench.why.reading.matched import PHASES

NEAR = 0.095
"""To 1: from here on a third decimal."""

FASTER, SLOWER, UNCLEAR = "faster", "slower", "unclear"


def answers(run: SavedRun) -> list[str]:
    """Sentences, the first for whoever reads one only.

    Args:
        run: with or without speed cases and comparisons of accuracy.
    """
    compared = [case for case in run.speed.values() if case.record.interval and not case.record.control]
    compared = [case for case in compared if not case.record.point] or compared
    said: list[str] = []
    for precision in dict.fromkeys(case.record.precision for case in compared):
        of = [case for case in compared if case.record.precision == precision]
        first = not said
        said.append(_verdict(precision, of))
        if first:  # of others the figure below has the intervals
            said += [_detail(phase, in_phase) for phase, in_phase in by_phase(of).items()]
    if not compared:
        said.append(_no_speedup(run))
    return [*said, *_accuracy([case.record for case in run.accuracy.values()], bool(compared))]


def _verdict(precision: str, cases: Sequence[SpeedCase]) -> str:
    """Whether a precision pays, by phase."""
    device = each(device_label(case.record) for case in cases)
    name = f"Mixed precision ({precision})" if precision.startswith("mixed_") else precision
    verdicts = "; ".join(_in_phase(phase, of) for phase, of in by_phase(cases).items())
    return f"{name} on {device} {verdicts}."


def _in_phase(phase: str, cases: Sequence[SpeedCase]) -> str:
    faster = [case.record.name for case in cases if _direction(case.record) == FASTER]
    speedups = [_times(speedup) for speedup in sorted(case.record.speedup or 0.0 for case in cases)]
    span = " to ".join(dict.fromkeys((speedups[0], speedups[-1])))
    how = f"({span} times as fast as {each(case.record.baseline for case in cases)})"
    if len(faster) == len(cases):
        return f"pays in {phase} {how}"
    if faster:
        return f"pays in {phase} for {listed(faster)} only {how}"
    if all(_direction(case.record) == SLOWER for case in cases):
        return f"does not pay in {phase} {how}"
    if slower := [case.record.name for case in cases if _direction(case.record) == SLOWER]:
        return f"pays for none in {phase}, and slows {listed(slower)} down {how}"
    return f"makes nothing in {phase} faster that this run could tell {how}"


def _direction(r: CaseRecord) -> str:
    """Which side of 1 the whole interval lies on."""
    assert r.interval is not None
    return FASTER if r.interval.low > 1 else SLOWER if r.interval.high < 1 else UNCLEAR


def _detail(phase: str, cases: Sequence[SpeedCase]) -> str:
    """One sentence per phase, each model with its interval."""
    titles = {FASTER: "faster", SLOWER: "slower", UNCLEAR: "no difference that this run could tell"}
    parts = []
    for direction, title in titles.items():
        named = [_named(case) for case in cases if _direction(case.record) == direction]
        if named:
            parts.append(f"{title}: {', '.join(named)}")
    return f"{phase.capitalize()}, times as fast [95 % interval], {'; '.join(parts)}."


def _named(case: SpeedCase) -> str:
    r = case.record
    assert r.interval is not None
    times = f"{_times(r.interval.estimate)} [{_times(r.interval.low)}, {_times(r.interval.high)}]"
    return " ".join([r.name, times, *marks(case, None)])


def _times(ratio: float) -> str:
    """A speedup with the digits that tell it from 1."""
    return f"{ratio:.3f}" if abs(ratio - 1) < NEAR else f"{ratio:.2f}"


def listed(names: Sequence[str]) -> str:
    return f"{', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else names[0]


def by_phase(cases: Iterable[SpeedCase]) -> dict[str, list[SpeedCase]]:
    """Cases by their phase, training first."""
    phases: dict[str, list[SpeedCase]] = {phase: [] for phase in PHASES}
    for case in cases:
        phases.setdefault(case.record.phase, []).append(case)
    return {phase: of for phase, of in phases.items() if of}


def _no_speedup(run: SavedRun) -> str:
    if run.speed:
        return "Whether mixed precision pays cannot be told from this run: no precision was measured beside a baseline."
    if run.accuracy:
        return "Whether mixed precision is faster was not measured in this run, only what it costs in accuracy."
    return "Whether mixed precision pays was not measured in this run, only where the time of its step goes."


def _accuracy(records: Iterable[AccuracyRecord], speed: bool) -> list[str]:
    said = [f"Accuracy: {in_words(record)}." for record in records]
    return said or (["What it costs in accuracy was not measured in this run."] if speed else [])

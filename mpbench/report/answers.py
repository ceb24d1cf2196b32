"""The answer that a report opens with: does mixed precision pay here, for which model and phase, at what cost.

Pure functions from a run's records to sentences; nothing is claimed that an interval does not show.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import Enum

from mpbench.records.accuracy import AccuracyRecord
from mpbench.records.runs import SavedRun
from mpbench.records.speed import SpeedCase
from mpbench.report.accuracy import in_words
from mpbench.report.labels import by_phase, device_label, each
from mpbench.report.marks import marked
from mpbench.why.reading.words import listed, speedup_label, times_label


class Direction(Enum):
    """Which side of 1 the whole interval of a speedup lies on."""

    FASTER = "faster"
    SLOWER = "slower"
    UNCLEAR = "no difference that this run could tell"


def answers(run: SavedRun) -> list[str]:
    """Sentences, the first for whoever reads one only.

    Args:
        run: with or without speed cases and comparisons of accuracy.
    """
    compared = [case for case in run.speed.values() if case.record.interval and not case.record.control]
    compared = [case for case in compared if not case.record.point] or compared
    sentences: list[str] = []
    for precision in dict.fromkeys(case.record.precision for case in compared):
        of_precision = [case for case in compared if case.record.precision == precision]
        details = [_detail(phase, cases) for phase, cases in by_phase(of_precision).items()]
        # Of further precisions the figure below has the intervals.
        sentences += [_verdict(precision, of_precision), *([] if sentences else details)]
    if not compared:
        sentences.append(_no_speedup(run))
    return [*sentences, *_accuracy([case.record for case in run.accuracy.values()], bool(compared))]


def _verdict(precision: str, cases: Sequence[SpeedCase]) -> str:
    """Whether a precision pays, by phase."""
    device = each(device_label(case.record) for case in cases)
    name = f"Mixed precision ({precision})" if precision.startswith("mixed_") else precision
    verdicts = "; ".join(_in_phase(phase, in_phase) for phase, in_phase in by_phase(cases).items())
    return f"{name} on {device} {verdicts}."


def _in_phase(phase: str, cases: Sequence[SpeedCase]) -> str:
    names = {
        direction: [case.record.name for case in cases if _direction(case) is direction] for direction in Direction
    }
    faster, slower = names[Direction.FASTER], names[Direction.SLOWER]
    speedups = [times_label(speedup) for speedup in sorted(case.record.speedup or 0.0 for case in cases)]
    span = " to ".join(dict.fromkeys((speedups[0], speedups[-1])))
    how = f"({span} times as fast as {each(case.record.baseline for case in cases)})"
    if len(faster) == len(cases):
        return f"pays in {phase} {how}"
    if faster:
        return f"pays in {phase} for {listed(faster)} only {how}"
    if len(slower) == len(cases):
        return f"does not pay in {phase} {how}"
    if slower:
        return f"pays for none in {phase}, and slows {listed(slower)} down {how}"
    return f"makes nothing in {phase} faster that this run could tell {how}"


def _direction(case: SpeedCase) -> Direction:
    interval = case.record.interval
    assert interval is not None
    if interval.low > 1:
        return Direction.FASTER
    return Direction.SLOWER if interval.high < 1 else Direction.UNCLEAR


def _detail(phase: str, cases: Sequence[SpeedCase]) -> str:
    """One sentence per phase, each model with its interval."""
    parts = []
    for direction in Direction:
        if named := [_named(case) for case in cases if _direction(case) is direction]:
            parts.append(f"{direction.value}: {', '.join(named)}")
    return f"{phase.capitalize()}, times as fast [95 % interval], {'; '.join(parts)}."


def _named(case: SpeedCase) -> str:
    assert case.record.interval is not None
    return marked(f"{case.record.name} {speedup_label(case.record.interval)}", case)


def _no_speedup(run: SavedRun) -> str:
    if run.speed:
        return "Whether mixed precision pays cannot be told from this run: no precision was measured beside a baseline."
    if run.accuracy:
        return "Whether mixed precision is faster was not measured in this run, only what it costs in accuracy."
    return "Whether mixed precision pays was not measured in this run, only where the time of its step goes."


def _accuracy(records: Iterable[AccuracyRecord], speed: bool) -> list[str]:
    sentences = [f"Accuracy: {in_words(record)}." for record in records]
    return sentences or (["What it costs in accuracy was not measured in this run."] if speed else [])

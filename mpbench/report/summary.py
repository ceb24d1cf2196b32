"""A session's summary for a pull request or a CI job's page: the outcome in a sentence, what is red, what is UNSURE and
what would settle it, then short tables. Pure functions from records and verdicts to a report, which is written as
Markdown.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from mpbench.config.precisions import CPU_NOTE
from mpbench.gate.lines import counts
from mpbench.gate.verdict import Kind, Verdict, is_red
from mpbench.records.accuracy import AccuracyRecord
from mpbench.records.speed import SpeedCase
from mpbench.report.accuracy import DRAWN_NOTE, difference_label, finding, is_drawn
from mpbench.report.content import Block, Cell, Note, Report, Section, Sentence, SessionStatus, Table, number
from mpbench.report.labels import by_phase, change_label, each, interval_label, precision_label, setting_label
from mpbench.report.markdown import markdown
from mpbench.report.marks import marks_of
from mpbench.report.speed_tables import energy_tables, mode_tables


def summary(
    cases: Sequence[SpeedCase],
    compared: Sequence[AccuracyRecord],
    verdicts: Sequence[Verdict] | None,
    status: SessionStatus,
) -> str:
    """The whole summary, as Markdown.

    Args:
        cases: speed cases of one run.
        compared: its accuracy comparisons.
        verdicts: the gate's; None where it was not asked.
        status: what has become of the session.
    """
    title, sentence = _opening(verdicts, status)
    notes = [Note("CPU", CPU_NOTE)] if any(case.record.device == "cpu" for case in cases) else []
    sections = [*_failures(status), *_judged(verdicts or []), *_speed(cases)]
    sections += [_accuracy(compared)] if compared else []
    if not (cases or compared or status.running or status.problem):
        sections.append(Section("nothing", "Nothing was measured."))
    return markdown(Report(title, [sentence], notes, sections))


def _opening(verdicts: Sequence[Verdict] | None, status: SessionStatus) -> tuple[str, str]:
    """The title and the sentence that a reader in a hurry reads."""
    failed = len(status.failures)
    tests = [f"{failed} {'test' if failed == 1 else 'tests'} failed"] if failed else []
    if status.running:
        return "mpbench: not finished", "The run was started and has not ended; if it is over, it was killed."
    if status.problem:
        return "mpbench: FAILED", f"The run broke off: {status.problem}"
    parts = [*tests, _judgement(verdicts)]
    if status.interrupted:
        begun = "The run was interrupted; this is what had been measured by then"
        return "mpbench: interrupted", f"{'. '.join([begun, *parts])}."
    if failed or is_red(verdicts or []):
        return "mpbench: FAILED", f"{'. '.join(parts)}."
    return "mpbench: passed" if verdicts else "mpbench", f"{'. '.join(parts)}."


def _judgement(verdicts: Sequence[Verdict] | None) -> str:
    if verdicts is None:
        return "The gate was not asked (--mp-gate): nothing is compared with earlier runs"
    if not verdicts:
        return "The gate has judged nothing"
    every = counts(verdicts)
    if is_red(verdicts):
        return f"The gate failed: {counts(v for v in verdicts if v.red)} for sure; all verdicts: {every}"
    if not any(verdict.change for verdict in verdicts) and any(verdict.kind is Kind.UNSURE for verdict in verdicts):
        return f"The gate passed: nothing can be judged ({every})"
    if not any(verdict.change for verdict in verdicts):
        return f"The gate passed: there is no earlier run to compare with yet ({every})"
    return f"The gate passed: nothing is slower for sure; all verdicts: {every}"


def _failures(status: SessionStatus) -> list[Section]:
    if not status.failures:
        return []
    short = _shortened([failure.name for failure in status.failures])
    rows = [{"test": short(name), "why": reason} for name, reason in status.failures]
    return [Section("failed", "Failed tests", [Table.of("", rows)])]


def _judged(verdicts: Sequence[Verdict]) -> list[Section]:
    """What is red, what is UNSURE, what else changed, and new levels; SAME, NEW and NOT SELECTED are only counted."""
    short = _shortened([verdict.name for verdict in verdicts])
    red = [verdict for verdict in verdicts if verdict.red]
    unsure = [verdict for verdict in verdicts if verdict.kind is Kind.UNSURE and not verdict.red]
    only_counted = (Kind.UNSURE, Kind.SAME, Kind.NEW, Kind.NOT_SELECTED)
    other = [verdict for verdict in verdicts if not verdict.red and verdict.kind not in only_counted]
    sections = []
    for title, these, reason in (
        ("Red", red, "why"),
        ("Unsure: not red", unsure, "what would settle it"),
        ("Also", other, "why"),
    ):
        rows = [
            {
                "verdict": verdict.kind.value,
                "what": short(verdict.name),
                "change [95 % interval]": change_label(verdict.change),
                reason: verdict.detail,
            }
            for verdict in these
        ]
        sections += [Section(title, title, [Table.of("", rows)])] if rows else []
    levels = [Sentence(f"{verdict.accepted}: {short(verdict.name)}") for verdict in verdicts if verdict.accepted]
    return [*sections, Section("levels", "New levels", levels)] if levels else sections


def _shortened(names: Sequence[str]) -> Callable[[str], str]:
    """Node ids without their files, where they remain apart."""

    def short(name: str) -> str:
        return re.sub(r"[^\s\[]*\.py::", "", name)

    return short if len({short(name) for name in names}) == len(set(names)) else str


def _speed(cases: Sequence[SpeedCase]) -> list[Section]:
    """A section for each phase, with a row for each case; then energy, XLA and replicas, and what the marks mean."""
    sections = []
    for phase, in_phase in by_phase(cases).items():
        rows: list[dict[str, Cell]] = [
            {
                "model": case.record.name,
                "precision": precision_label(case.record),
                "ms": number(1000 * case.median_seconds, ".2f"),
                "speedup [95 % interval]": interval_label(case.record.interval),
                "notes": ", ".join(f"{mark.value} ({x})" if x else mark.value for mark, x in marks_of(case).items()),
            }
            for case in in_phase
        ]
        measured = Sentence(f"On {setting_label([case.record for case in in_phase])}.")
        sections.append(Section(phase, f"{phase.capitalize()}: median ms per step", [measured, Table.of("", rows)]))
    further: list[Block] = [*energy_tables(cases), *mode_tables(cases)]
    marks = {mark: None for case in cases for mark in marks_of(case)}
    further += [Note(mark.value, f"{mark.meaning}.") for mark in marks]
    return [*sections, Section("further", "Further figures and notes", further)] if further else sections


def _accuracy(records: Sequence[AccuracyRecord]) -> Section:
    rows = [
        {
            "model": r.model,
            "precision": r.precision,
            "against": r.baseline,
            "accuracy": f"{100 * r.baseline_accuracy:.2f} % -> {100 * r.accuracy:.2f} %",
            "difference [95 % interval]": difference_label(r),
            "McNemar's p": f"{r.mcnemar_exact_p:.3f}",
            "verdict": finding(r).value,
        }
        for r in records
    ]
    images = each(f"{r.validation_images} images of {r.data}, weights {r.weights}" for r in records)
    about = Sentence(f"On {images}; the difference in percentage points.")
    drawn = [Note("DRAWN", DRAWN_NOTE)] if any(map(is_drawn, records)) else []
    return Section("accuracy", "Accuracy", [about, Table.of("", rows), *drawn])

"""The run as Markdown for a pull request or a CI job's page: the outcome in a sentence, what is red, what is UNSURE and
what would settle it, then the tables.

Pure functions from records and verdicts to text. Names, reasons and whatever else could come from outside stand in code
spans, where they are text: no HTML, link, mention or further cell.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from mpbench.config.precisions import CPU_NOTE
from mpbench.gate.lines import counts
from mpbench.gate.verdict import Kind, Verdict, is_red
from mpbench.records.accuracy import AccuracyRecord
from mpbench.records.speed import CaseRecord, SpeedCase
from mpbench.report.accuracy_tables import DRAWN_NOTE, in_words, is_drawn
from mpbench.report.tables import (
    DOUBTS,
    device_label,
    doubted,
    each,
    per_replica,
    power_limit,
    tables_beside,
    throttled_rounds,
)
from mpbench.stats.intervals import Interval

MAX_BYTES = 1_000_000
"""GitHub refuses the summary of a step from 1 MiB on."""

MAX_TEXT = 300
"""Characters of a name or a reason: no honest one is longer, and no other may push the tables out of the page."""

LEGEND = {
    **{word: f"{text}." for word, text in DOUBTS.items()},
    "WARM-UP": "half the time limit was over before the case was seen to be stationary.",
    "SKIPPED": "loss scaling dropped that many measured steps; their rounds are left out.",
    "THROTTLED": "heat or the power supply slowed the GPU down in that many rounds; they are left out, or, where too "
    "few would be left, the figures are of all rounds.",
    "POWER LIMIT": "the clock was lowered to stay within the power limit in that share of rounds, as a GPU does under "
    "full load.",
    "NO TF32": "this device has none, the figures are plain float32's.",
    "CONTROL": "the baseline against itself, the noise floor of this run.",
}
"""What the notes in the table mean; shown for those that are there."""

CUT = "\n\nCut here: a longer summary would not be shown.\n"


class Failure(NamedTuple):
    """A test that failed: its node id, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class Ending:
    """How the session ended.

    Attributes:
        failures: tests that failed, in order.
        interrupted: Ctrl-C or the like: there is less than was asked for.
        problem: what broke it off, such as bad usage, in a line; empty where nothing did.
        running: it has not ended.
    """

    failures: Sequence[Failure] = ()
    interrupted: bool = False
    problem: str = ""
    running: bool = False


def markdown(
    cases: Sequence[SpeedCase],
    compared: Sequence[AccuracyRecord],
    verdicts: Sequence[Verdict] | None,
    ending: Ending | None = None,
) -> str:
    """The whole summary.

    Args:
        cases: speed cases of one run.
        compared: its accuracy comparisons.
        verdicts: the gate's; None where it was not asked.
        ending: how the session ended; None where all is well.
    """
    ending = ending or Ending()
    parts = [*_opening(verdicts, ending), *_failures(ending.failures), *_judged(verdicts or [])]
    for phase in dict.fromkeys(case.record.phase for case in cases):
        parts += _speed([case for case in cases if case.record.phase == phase])
    for beside in tables_beside(cases):
        rows = [row | {"model": code(row["model"]), "precision": code(row["precision"])} for row in beside.rows]
        columns = {column for row in rows for column in row}
        parts += [f"### {beside.title}", table(rows, right=columns - {"model", "precision"})]
    used = {name for case in cases for name in _notes(case.record)}
    if used:
        parts.append("\n".join(f"- {name}: {meaning}" for name, meaning in LEGEND.items() if name in used))
    if any(case.record.device == "cpu" for case in cases):
        parts.append(f"> {CPU_NOTE}")
    parts += _accuracy(compared) if compared else []
    if not (cases or compared or ending.running or ending.problem):
        parts.append("Nothing was measured.")
    return fitting("\n\n".join(parts) + "\n")


def code(text: object) -> str:
    """Any text as a code span, in one line: nothing in it is Markdown or HTML."""
    line = " ".join("".join(c if c.isprintable() else " " for c in str(text)).split()) or "(empty)"
    line = line if len(line) <= MAX_TEXT else f"{line[:MAX_TEXT]}..."
    fence = "`" * (max((len(run) for run in re.findall("`+", line)), default=0) + 1)
    space = " " if line[0] == "`" or line[-1] == "`" else ""
    return f"{fence}{space}{line}{space}{fence}"


def table(rows: Sequence[Mapping[str, str]], right: Collection[str] = ()) -> str:
    """Rows as a Markdown table, columns named by the rows' keys; cells are Markdown, those in `right` to the right."""
    headers = list(dict.fromkeys(header for row in rows for header in row))
    cells = [[row.get(header, "") for header in headers] for row in rows]
    return grid(headers, cells, [header in right for header in headers])


def grid(headers: Sequence[str], rows: Iterable[Sequence[str]], right: Sequence[bool]) -> str:
    """As `table`, with the columns' names apart, of which two may be alike."""
    rule = ["---:" if of else "---" for of in right]
    lines = [[cell.replace("|", "\\|") for cell in line] for line in (headers, *rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in [lines[0], rule, *lines[1:]])


def _opening(verdicts: Sequence[Verdict] | None, ending: Ending) -> list[str]:
    """The heading and the sentence that a reader in a hurry reads."""
    failed = len(ending.failures)
    tests = f"{failed} {'test' if failed == 1 else 'tests'} failed" if failed else ""
    if ending.running:
        return ["## mpbench: not finished", "**The run was started and has not ended; if it is over, it was killed.**"]
    if ending.problem:
        return ["## mpbench: FAILED", f"**The run broke off:** {code(ending.problem)}"]
    judgement = _judgement(verdicts)
    if ending.interrupted:
        begun = "The run was interrupted; this is what had been measured by then"
        sentences = [begun, *filter(None, [tests]), judgement]
        return ["## mpbench: interrupted", f"**{'. '.join(sentences)}.**"]
    sentence = f"**{f'{tests}. ' if tests else ''}{judgement}.**"
    if failed or is_red(verdicts or []):
        return ["## mpbench: FAILED", sentence]
    return ["## mpbench: passed" if verdicts else "## mpbench", sentence]


def _judgement(verdicts: Sequence[Verdict] | None) -> str:
    if verdicts is None:
        return "The gate was not asked (`--mp-gate`): nothing is compared with earlier runs"
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


def _failures(failures: Sequence[Failure]) -> list[str]:
    if not failures:
        return []
    short = _shortened([failure.name for failure in failures])
    return ["### Failed tests", table([{"test": code(short(f.name)), "why": code(f.reason)} for f in failures])]


def _judged(verdicts: Sequence[Verdict]) -> list[str]:
    """What is red, what is UNSURE, what else changed, and new levels; SAME, NEW and NOT SELECTED are only counted."""
    short = _shortened([verdict.name for verdict in verdicts])
    red = [verdict for verdict in verdicts if verdict.red]
    counted = (Kind.UNSURE, Kind.SAME, Kind.NEW, Kind.NOT_SELECTED)
    unsure = [verdict for verdict in verdicts if verdict.kind is Kind.UNSURE and not verdict.red]
    other = [verdict for verdict in verdicts if not verdict.red and verdict.kind not in counted]
    parts = []
    for heading, these, reason in (
        ("Red", red, "why"),
        ("Unsure: not red", unsure, "what would settle it"),
        ("Also", other, "why"),
    ):
        if these:
            rows = [
                {
                    "verdict": verdict.kind.value,
                    "what": code(short(verdict.name)),
                    "change [95 % interval]": _change(verdict.change),
                    reason: code(verdict.detail) if verdict.detail else "",
                }
                for verdict in these
            ]
            parts += [f"### {heading}", table(rows, right=["change [95 % interval]"])]
    accepted = [f"- {code(verdict.accepted)}: {code(short(verdict.name))}" for verdict in verdicts if verdict.accepted]
    if accepted:
        parts.append("\n".join(accepted))
    return parts


def _change(change: Interval | None) -> str:
    if change is None:
        return ""
    return f"{100 * change.estimate:+.1f} % [{100 * change.low:+.1f}, {100 * change.high:+.1f}]"


def _shortened(names: Sequence[str]) -> Callable[[str], str]:
    """Node ids without their files, where they remain apart."""

    def short(name: str) -> str:
        return re.sub(r"[^\s\[]*\.py::", "", name)

    return short if len({short(name) for name in names}) == len(set(names)) else str


def _speed(cases: Sequence[SpeedCase]) -> list[str]:
    """One phase: how it was measured, and a row for each case."""
    records = [case.record for case in cases]
    setting = (
        f"{each(map(device_label, records))}, batch {each(r.batch_size for r in records)}"
        f"{per_replica(records)}, "
        f"{each(r.image_size for r in records)} px, XLA {each('on' if r.jit else 'off' for r in records)}, "
        f"profile {each(r.profile for r in records)}"
    )
    rows = [
        {
            "model": code(case.record.name),
            "precision": code(case.record.precision),
            "ms": f"{1000 * case.median_seconds:.2f}",
            "speedup [95 % interval]": _interval(case.record.interval) if case.record.interval else "",
            "notes": ", ".join(_notes(case.record).values()),
        }
        for case in cases
    ]
    return [
        f"### {records[0].phase.capitalize()}: median ms per step",
        f"On {code(setting)}.",
        table(rows, right=["ms", "speedup [95 % interval]"]),
    ]


def _notes(record: CaseRecord) -> dict[str, str]:
    """What must be known before the figure is believed: the note by its name in LEGEND."""
    r, notes = record, {}
    if r.doubt:
        notes[r.doubt] = f"{r.doubt} ({doubted(r)})"
    if not r.warmup_settled:
        notes["WARM-UP"] = f"WARM-UP ({r.warmup_rounds} rounds)"
    if r.skipped_steps:
        notes["SKIPPED"] = f"SKIPPED ({r.skipped_steps} steps)"
    if r.throttled_blocks:
        ending = ", all count" if r.throttled else " left out"
        notes["THROTTLED"] = f"THROTTLED ({throttled_rounds(r)} of {r.rounds} rounds{ending})"
    if r.power_limited_share:
        notes["POWER LIMIT"] = f"POWER LIMIT ({power_limit(r)})"
    if r.precision == "tf32" and not r.tf32:
        notes["NO TF32"] = "NO TF32"
    if r.control:
        notes["CONTROL"] = "CONTROL"
    return notes


def _interval(interval: Interval) -> str:
    return f"{interval.estimate:.3f} [{interval.low:.3f}, {interval.high:.3f}]"


def _accuracy(records: Sequence[AccuracyRecord]) -> list[str]:
    rows = [
        {
            "model": code(r.model),
            "precision": code(r.precision),
            "against": code(r.baseline),
            "accuracy": f"{100 * r.baseline_accuracy:.2f} % -> {100 * r.accuracy:.2f} %",
            "difference [95 % interval]": " ".join(
                [f"{100 * r.difference:+.2f}", f"[{100 * r.difference_low:+.2f}, {100 * r.difference_high:+.2f}]"]
            ),
            "McNemar's p": f"{r.mcnemar_exact_p:.3f}",
            "verdict": in_words(r).partition(":")[0],
        }
        for r in records
    ]
    images = each(f"{r.validation_images} images of {r.data}, weights {r.weights}" for r in records)
    parts = ["### Accuracy", f"On {code(images)}; the difference in percentage points.", table(rows)]
    drawn = any(map(is_drawn, records))
    return [*parts, DRAWN_NOTE] if drawn else parts


def fitting(text: str) -> str:
    """The text, cut after a line where it would be refused: a table that lacks its last rows is still one."""
    data = text.encode("utf-8", "replace")
    if len(data) <= MAX_BYTES:
        return data.decode()
    return data[: MAX_BYTES - len(CUT)].decode("utf-8", "ignore").rpartition("\n")[0] + CUT

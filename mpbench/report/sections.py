"""A report's sections, in the order of reading: from saved runs to `content.Report`, whatever it is written as.

Pure. What was not measured is a section all the same: a sentence, and the command that measures it.
"""

from __future__ import annotations

from collections.abc import Sequence

from mpbench.config.precisions import CPU_NOTE
from mpbench.gate.judge import judge
from mpbench.gate.lines import outcome
from mpbench.gate.rules import Rules
from mpbench.gate.verdict import Kind, Verdict
from mpbench.history.series import MIN_RUNS
from mpbench.records.runs import SavedRun
from mpbench.records.speed import SpeedCase
from mpbench.report import environment
from mpbench.report.accuracy_tables import DRAWN_NOTE, in_words, is_drawn
from mpbench.report.answers import answers, by_phase
from mpbench.report.benefit import equal_benefit
from mpbench.report.content import Block, Cell, Command, Drawing, Note, Number, Report, Section, Sentence, Table
from mpbench.report.drawing import MOST_DRAWINGS
from mpbench.report.figures import (
    accuracy_differences,
    causes,
    energy,
    histories,
    memory,
    rooflines,
    speedups,
    step_times,
    throughput,
)
from mpbench.report.photographs import photographs
from mpbench.report.summary import Ending
from mpbench.report.tables import DOUBTS, Beside, energy_tables, mode_tables, notes, sweep_table
from mpbench.report.thesis_tables import thesis_tables
from mpbench.why.reading.input_verdict import INPUT_BOUND
from mpbench.why.reading.matched import Step, matched

MOST_FAILURES = 10
"""That are named at the top."""

SPEED, ACCURACY, CAUSES = "pytest bench/", "pytest tests/test_accuracy.py", "make why"


def report(runs: Sequence[SavedRun], ending: Ending | None = None) -> Report:
    """The whole report of the newest run; beside it one other, or the history of several.

    Args:
        runs: at least one, in any order.
        ending: how its session ended; None where that is not known, as of a saved run.
    """
    *earlier, run = sorted(runs, key=lambda one: (one.time, one.path))
    sections = [
        Section("speedup", "Speedup", _speedup(list(run.speed.values()))),
        Section("tables", "The thesis's tables, as measured here", _tables(run)),
        Section("rounds", "Every round, in the order measured", _rounds(run)),
        Section("accuracy", "Accuracy", _accuracy(run)),
        Section("resources", "Memory, energy, images per second", _resources(list(run.speed.values()))),
        Section("causes", "Why: where the time goes", _causes([*earlier, run])),
        Section("history", "Against earlier runs", _history(run, earlier)),
        Section("environment", "Environment and raw numbers", environment.blocks(run)),
    ]
    return Report(environment.title(run), answers(run), [*_ending(ending), *_notes(run)], sections)


def _ending(ending: Ending | None) -> list[Note]:
    """What is not in the run although it was asked for."""
    if ending is None:
        return []
    said = [Note("FAILED", f"{failure.name}: {failure.reason}") for failure in ending.failures[:MOST_FAILURES]]
    if len(ending.failures) > MOST_FAILURES:
        said.append(Note("FAILED", f"and {len(ending.failures) - MOST_FAILURES} more"))
    if ending.interrupted or ending.problem:
        why = f": {ending.problem}" if ending.problem else ""
        said.append(Note("INTERRUPTED", f"The session was broken off{why}. There is less here than was asked for."))
    return said


def _notes(run: SavedRun) -> list[Note]:
    """What holds for the whole report."""
    kinds = {case.record.device for case in run.speed.values()}
    kinds |= {case.record.device for case in run.accuracy.values()}
    kinds |= {diagnosed.record.device for diagnosed in run.diagnostics.values()}
    said = [Note("CPU", CPU_NOTE)] if "cpu" in kinds else []
    records = [case.record for case in run.speed.values()]
    for word, text in DOUBTS.items():
        if any(r.doubt == word for r in records):
            said.append(Note(word, f"So marked: {text}."))
    if any(not r.warmup_settled for r in records):
        said.append(Note("WARM-UP", "Some cases were still getting faster or slower when their measurement began."))
    if any(r.throttled for r in records):
        said.append(Note("THROTTLED", "So marked: heat or the power supply slowed the GPU down nearly throughout."))
    floor = [r for r in records if r.control and r.interval and not r.interval.low <= 1 <= r.interval.high]
    if floor:
        named = ", ".join(f"{r.name}, {r.phase}: {r.speedup:.3f}" for r in floor)
        text = f"The baseline differs from itself here ({named}): distrust differences as small."
        said.append(Note("NOISE FLOOR", text))
    if run.denied:
        more = f"; and {len(run.denied) - MOST_FAILURES} more" if len(run.denied) > MOST_FAILURES else ""
        said.append(Note("CONTRADICTED", f"{'; '.join(run.denied[:MOST_FAILURES])}{more}."))
    if run.dirty:
        said.append(Note("DIRTY", "There were uncommitted changes when this was measured."))
    return said


def as_note(line: str, where: str = "") -> Note:
    """A line of the terminal's tables that begins with its word, as `NOISY: ...` does."""
    word, _, text = line.partition(": ")
    return Note(word.upper(), where + text)


def _speedup(cases: Sequence[SpeedCase]) -> list[Block]:
    drawing = speedups(cases)
    if drawing is None:
        return _missing("No precision was measured beside a baseline in this run.", SPEED)
    said: list[Block] = [drawing]
    for phase, of in by_phase(cases).items():
        benefit = equal_benefit(case for case in of if not case.record.point)
        said += [Sentence(f"{phase.capitalize()}: {line}") for line in benefit]
        if (swept := sweep_table(of)).rows:
            said.append(table(swept))
        said += [as_note(line, f"{phase.capitalize()}: ") for line in notes(of)]
    return [*said, *map(table, mode_tables(cases))]


def _tables(run: SavedRun) -> list[Block]:
    found: list[Block] = [*thesis_tables(run)]
    if not found:
        return _missing("Nothing that the thesis's tables hold was measured in this run.", SPEED)
    if not run.accuracy:
        found += _missing("Tables 2 and 3, accuracy, were not measured in this run.", ACCURACY)
    if not run.speed:
        found += _missing("Tables 1, 4 and 5, speed, were not measured in this run.", SPEED)
    return found


def _rounds(run: SavedRun) -> list[Block]:
    if not run.speed:
        return _missing("No step was timed in this run.", SPEED)
    about = (
        "Each mark is a round: the mean of some steps, run back to back. Precisions were measured in turns, in blocks. "
        "Drift, an unfinished warm-up and throttling show as slopes and steps."
    )
    return [Sentence(about), *_drawn(step_times(list(run.speed.values())))]


def _accuracy(run: SavedRun) -> list[Block]:
    records = [case.record for case in run.accuracy.values()]
    if not records:
        return _missing("Accuracy was not compared in this run.", ACCURACY)
    drawing = accuracy_differences(records)
    said: list[Block] = [drawing] if drawing else []
    said += [as_note(in_words(record)) for record in records]
    if any(map(is_drawn, records)):
        said.append(Note("DRAWN", DRAWN_NOTE))
    shown = [photograph for record in records for photograph in photographs(record)]
    if shown:
        said.append(Sentence("Some of the images on which the two models disagree:"))
    elif any(r.baseline_only + r.precision_only for r in records):
        said.append(Sentence("The images on which the two models disagree were not saved with this run."))
    return [*said, *shown]


def _resources(cases: Sequence[SpeedCase]) -> list[Block]:
    if not cases:
        return _missing("No step was measured in this run.", SPEED)
    drawn = [memory(cases), energy(cases), throughput(cases)]
    said: list[Block] = [drawing for drawing in drawn if drawing is not None]
    said += map(table, energy_tables(cases))
    on_gpu = any(case.record.device == "gpu" for case in cases)
    if drawn[0] is None:
        said.append(Sentence("Memory per case is known only on a GPU, from TensorFlow's allocator."))
    if drawn[1] is None:
        needs = "NVML gave no energy counter for this GPU." if on_gpu else "Energy is read from an NVIDIA GPU."
        said.append(Sentence(needs))
    return said


def _causes(runs: Sequence[SavedRun]) -> list[Block]:
    steps, left_out = matched([run for run in runs if run.diagnostics or run is runs[-1]])
    if not steps:
        return _missing("No profile of a step was taken in this run.", CAUSES)
    rows = []
    for step in steps:
        inputs = [f"{of.sentence}." for of in step.inputs.values() if of.verdict != INPUT_BOUND]
        sentences = [*step.verdict, *(one for one in inputs if step.arms)]
        rows += [(_told_apart(step, steps), sentence) for sentence in sentences]
    said: list[Block] = [Table("What the figures show", ("step", "finding"), tuple(rows))]
    said += [*_drawn(causes(steps)), *_drawn(rooflines(steps))]
    said += [Note("NO PROFILE", f"{step.setting.step}: {line}.") for step in steps for line in step.unprofiled]
    said += [Note("LEFT OUT", line.removeprefix("left out: ")) for line in left_out]
    said.append(Sentence("All of it, by class of work, pass and layer:"))
    return [*said, Command("python -m mpbench explain RUN.json")]


def _told_apart(step: Step, steps: Sequence[Step]) -> str:
    """A step's name, with what tells it from others of that name."""

    def facts(of: Step) -> list[str]:
        s = of.setting
        xla = f"XLA {'on' if s.jit else 'off'}"
        return [f"batch {s.batch_size}", f"{s.image_size} px", xla, f"{s.replicas} replicas", s.device_name]

    others = [facts(one) for one in steps if one.setting.step == step.setting.step]
    telling = [fact for at, fact in enumerate(facts(step)) if any(other[at] != fact for other in others)]
    return ", ".join([step.setting.step, *telling])


def _history(run: SavedRun, earlier: Sequence[SavedRun]) -> list[Block]:
    if not earlier:
        return [
            Sentence("One run was given. A second one is compared with it, several are shown as a history:"),
            Command("python -m mpbench report EARLIER.json LATER.json -o report.html"),
        ]
    verdicts = judge(run, earlier, Rules())
    said: list[Block] = [
        Sentence(f"Against {len(earlier)} earlier run{'s' if len(earlier) > 1 else ''}, by the rules of the gate:"),
        _outcome(verdicts),
        _verdicts(verdicts),
    ]
    if len(earlier) == 1:
        said.append(environment.side_by_side(earlier[0], run))
    if len(earlier) + 1 < MIN_RUNS:
        said.append(Sentence(f"Lasting steps in a history can be detected from {MIN_RUNS} runs on."))
    return [*said, *_drawn(histories([*earlier, run]))]


def _drawn(drawings: Sequence[Drawing]) -> list[Block]:
    full = len(drawings) == MOST_DRAWINGS
    return [*drawings, *([Sentence(f"No more than {MOST_DRAWINGS} figures of a kind are drawn.")] if full else [])]


def _outcome(verdicts: Sequence[Verdict]) -> Note:
    if not any(verdict.kind in (Kind.SAME, Kind.SLOWER, Kind.FASTER) for verdict in verdicts):
        return Note("UNSURE", "Nothing of this run can be judged against the earlier ones; the table says why.")
    return Note("GATE", outcome(verdicts).removeprefix("GATE "))


def _verdicts(verdicts: Sequence[Verdict]) -> Table:
    rows = []
    for verdict in verdicts:
        c = verdict.change
        change: Cell = ""
        if c is not None:
            text = f"{100 * c.estimate:+.1f} [{100 * c.low:+.1f}, {100 * c.high:+.1f}]"
            change = Number(text, c.estimate)
        rows.append((verdict.kind.value, verdict.name, change, verdict.detail))
    return Table("Verdicts", ("verdict", "case", "change, % [interval]", "because"), tuple(rows), sortable=True)


def _missing(sentence: str, command: str) -> list[Block]:
    saving = " --benchmark-autosave" if command.startswith("pytest") else ""
    return [Sentence(f"{sentence} This does it:"), Command(command + saving)]


def table(of: Beside) -> Table:
    """A table of the terminal's."""
    columns = tuple(dict.fromkeys(name for row in of.rows for name in row))
    return Table(of.title, columns, tuple(tuple(row.get(name, "") for name in columns) for row in of.rows))

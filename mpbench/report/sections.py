"""A report's sections, in the order of reading: from saved runs to `content.Report`, whatever it is written as.

Pure. A further section is one more line in SECTIONS: its anchor, its title, and a function of the run and the earlier
ones that returns its blocks (`content.py` has the kinds of block), or none, which leaves the section out. What was not
measured is best said: a sentence, and the command that measures it (`_missing`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from mpbench.config.precisions import CPU_NOTE
from mpbench.gate.judge import judge
from mpbench.gate.lines import outcome
from mpbench.gate.rules import Rules
from mpbench.gate.verdict import Kind, Verdict
from mpbench.history.series import MIN_RUNS
from mpbench.records.marks import Mark
from mpbench.records.numerics import NUMERICS
from mpbench.records.runs import SavedRun
from mpbench.report import environment
from mpbench.report.accuracy import DRAWN_NOTE, finding, is_drawn, photographs, reasons
from mpbench.report.answers import answers
from mpbench.report.benefit import equal_benefit
from mpbench.report.cause_figures import breakdowns, rooflines
from mpbench.report.content import (
    Block,
    Cell,
    Command,
    Drawing,
    Note,
    Number,
    Report,
    Section,
    Sentence,
    SessionStatus,
    Table,
)
from mpbench.report.drawing import MOST_DRAWINGS
from mpbench.report.figures import accuracy_differences, energy, memory, speedups, step_times, throughput
from mpbench.report.history_figures import histories
from mpbench.report.labels import by_phase, change_label
from mpbench.report.marks import marks_beside, notes
from mpbench.report.numerics import numerics_blocks
from mpbench.report.speed_tables import energy_tables, mode_tables, sweep_table
from mpbench.report.thesis_tables import thesis_tables
from mpbench.why.reading.input_verdict import InputVerdict
from mpbench.why.reading.matched import matched

MOST_FAILURES = 10
"""So many failed tests are named at the top."""

MEASURE_SPEED = "pytest bench/ --benchmark-autosave"
MEASURE_ACCURACY = "pytest tests/test_accuracy.py --benchmark-autosave"
FIND_CAUSES = "make why"


def report(runs: Sequence[SavedRun], status: SessionStatus | None = None) -> Report:
    """The whole report of the newest run; beside it one other, or the history of several.

    Args:
        runs: at least one, in any order.
        status: what has become of its session; None where that is not known, as of a saved run.
    """
    *earlier, run = sorted(runs, key=lambda one: (one.time, one.path))
    made = [Section(name, title, blocks_of(run, earlier)) for name, title, blocks_of in SECTIONS]
    at_the_top = [*_not_measured(status or SessionStatus()), *_notes(run)]
    return Report(environment.title(run), answers(run), at_the_top, [section for section in made if section.blocks])


def _not_measured(status: SessionStatus) -> list[Note]:
    """What was asked for and is not in the run."""
    found = [Note("FAILED", f"{failure.name}: {failure.reason}") for failure in status.failures[:MOST_FAILURES]]
    if len(status.failures) > MOST_FAILURES:
        found.append(Note("FAILED", f"and {len(status.failures) - MOST_FAILURES} more"))
    if status.interrupted or status.problem:
        why = f": {status.problem}" if status.problem else ""
        found.append(Note("INTERRUPTED", f"The session was broken off{why}. There is less here than was asked for."))
    return found


def _notes(run: SavedRun) -> list[Note]:
    """What holds for the whole report."""
    records = [case.record for case in run.speed.values()]
    on_cpu = any(case.record.device == "cpu" for case in run.cases.values())
    found = [Note("CPU", CPU_NOTE)] if on_cpu else []
    beside = {mark for case in run.speed.values() for mark in marks_beside(case)}
    beside |= {Mark.WARM_UP} if any(not r.warmup_settled for r in records) else set()
    found += [Note(mark.value, f"So marked: {mark.meaning}.") for mark in Mark if mark in beside]
    floor = [r for r in records if r.control and r.interval and not r.interval.low <= 1 <= r.interval.high]
    if floor:
        named = ", ".join(f"{r.name}, {r.phase}: {r.speedup:.3f}" for r in floor)
        text = f"The baseline differs from itself here ({named}): distrust differences as small."
        found.append(Note(Mark.NOISE_FLOOR.value, text))
    if run.denied:
        more = f"; and {len(run.denied) - MOST_FAILURES} more" if len(run.denied) > MOST_FAILURES else ""
        found.append(Note("CONTRADICTED", f"{'; '.join(run.denied[:MOST_FAILURES])}{more}."))
    if run.dirty:
        found.append(Note("DIRTY", "There were uncommitted changes when this was measured."))
    return found


def _speedup(run: SavedRun, earlier: Sequence[SavedRun]) -> list[Block]:
    cases = list(run.speed.values())
    drawing = speedups(cases)
    if drawing is None:
        return _missing("No precision was measured beside a baseline in this run.", MEASURE_SPEED)
    blocks: list[Block] = [drawing]
    for phase, in_phase in by_phase(cases).items():
        benefit = equal_benefit(case for case in in_phase if not case.record.point)
        blocks += [Sentence(f"{phase.capitalize()}: {line}") for line in benefit]
        if (swept := sweep_table(in_phase)).rows:
            blocks.append(swept)
        blocks += [Note(note.word, f"{phase.capitalize()}: {note.text}") for note in notes(in_phase)]
    return [*blocks, *mode_tables(cases)]


def _tables(run: SavedRun, earlier: Sequence[SavedRun]) -> list[Block]:
    blocks: list[Block] = [*thesis_tables(run)]
    if not blocks:
        return _missing("Nothing that the thesis's tables hold was measured in this run.", MEASURE_SPEED)
    if not run.accuracy:
        blocks += _missing("Tables 2 and 3, accuracy, were not measured in this run.", MEASURE_ACCURACY)
    if not run.speed:
        blocks += _missing("Tables 1, 4 and 5, speed, were not measured in this run.", MEASURE_SPEED)
    return blocks


def _rounds(run: SavedRun, earlier: Sequence[SavedRun]) -> list[Block]:
    if not run.speed:
        return _missing("No step was timed in this run.", MEASURE_SPEED)
    about = (
        "Each mark is a round: the mean of some steps, run back to back. Precisions were measured in turns, in blocks. "
        "Drift, an unfinished warm-up and throttling show as slopes and steps."
    )
    return [Sentence(about), *_drawn(step_times(list(run.speed.values())))]


def _accuracy(run: SavedRun, earlier: Sequence[SavedRun]) -> list[Block]:
    records = [case.record for case in run.accuracy.values()]
    if not records:
        return _missing("Accuracy was not compared in this run.", MEASURE_ACCURACY)
    blocks: list[Block] = [accuracy_differences(records)]
    blocks += [Note(finding(record).value, reasons(record)) for record in records]
    if any(map(is_drawn, records)):
        blocks.append(Note("DRAWN", DRAWN_NOTE))
    shown = [photograph for record in records for photograph in photographs(record)]
    if shown:
        blocks.append(Sentence("Some of the images on which the two models disagree:"))
    elif any(r.baseline_only + r.precision_only for r in records):
        blocks.append(Sentence("The images on which the two models disagree were not saved with this run."))
    return [*blocks, *shown]


def _resources(run: SavedRun, earlier: Sequence[SavedRun]) -> list[Block]:
    cases = list(run.speed.values())
    if not cases:
        return _missing("No step was measured in this run.", MEASURE_SPEED)
    of_memory, of_energy = memory(cases), energy(cases)
    blocks: list[Block] = [drawing for drawing in (of_memory, of_energy, throughput(cases)) if drawing]
    blocks += energy_tables(cases)
    if of_memory is None:
        blocks.append(Sentence("Memory per case is known only on a GPU, from TensorFlow's allocator."))
    if of_energy is None:
        on_gpu = any(case.record.device == "gpu" for case in cases)
        needs = "NVML gave no energy counter for this GPU." if on_gpu else "Energy is read from an NVIDIA GPU."
        blocks.append(Sentence(needs))
    return blocks


def _causes(run: SavedRun, earlier: Sequence[SavedRun]) -> list[Block]:
    found = matched([*(one for one in earlier if one.diagnostics), run])
    if not found.steps:
        return _missing("No profile of a step was taken in this run.", FIND_CAUSES)
    rows = []
    names = Counter(step.setting.step for step in found.steps)
    for step in found.steps:
        alone = names[step.setting.step] == 1
        name = step.setting.step if alone else f"{step.setting.step}, {step.setting.where}"
        inputs = [f"{of.sentence}." for of in step.inputs.values() if of.verdict is not InputVerdict.INPUT_BOUND]
        sentences = [*step.verdict, *(one for one in inputs if step.arms)]
        rows += [(name, sentence) for sentence in sentences]
    blocks: list[Block] = [Table("What the figures show", ("step", "finding"), tuple(rows))]
    blocks += [*_drawn(breakdowns(found.steps)), *_drawn(rooflines(found.steps))]
    blocks += [
        Note(Mark.NO_PROFILE.value, f"{step.setting.step}: {line}.") for step in found.steps for line in step.unprofiled
    ]
    blocks += [Note("LEFT OUT", line) for line in found.left_out]
    blocks += [Note("NOTE", line) for line in found.remarks]
    return [
        *blocks,
        Sentence("All of it, by class of work, pass and layer:"),
        Command("python -m mpbench explain RUN.json"),
    ]


def _history(run: SavedRun, earlier: Sequence[SavedRun]) -> list[Block]:
    if not earlier:
        return [
            Sentence("One run was given. A second one is compared with it, several are shown as a history:"),
            Command("python -m mpbench report EARLIER.json LATER.json -o report.html"),
        ]
    verdicts = judge(run, earlier, Rules())
    blocks: list[Block] = [
        Sentence(f"Against {len(earlier)} earlier run{'s' if len(earlier) > 1 else ''}, by the rules of the gate:"),
        _outcome(verdicts),
        _verdicts(verdicts),
    ]
    if len(earlier) == 1:
        blocks.append(environment.side_by_side(earlier[0], run))
    if len(earlier) + 1 < MIN_RUNS:
        blocks.append(Sentence(f"Lasting steps in a history can be detected from {MIN_RUNS} runs on."))
    return [*blocks, *_drawn(histories([*earlier, run]))]


def _drawn(drawings: Sequence[Drawing]) -> list[Block]:
    full = len(drawings) == MOST_DRAWINGS
    return [*drawings, *([Sentence(f"No more than {MOST_DRAWINGS} figures of a kind are drawn.")] if full else [])]


def _outcome(verdicts: Sequence[Verdict]) -> Note:
    if not any(verdict.kind in (Kind.SAME, Kind.SLOWER, Kind.FASTER) for verdict in verdicts):
        return Note("UNSURE", "Nothing of this run can be judged against the earlier ones; the table says why.")
    return Note("GATE", outcome(verdicts).removeprefix("GATE "))


def _verdicts(verdicts: Sequence[Verdict]) -> Table:
    rows: list[dict[str, Cell]] = []
    for verdict in verdicts:
        change = Number(change_label(verdict.change), verdict.change.estimate) if verdict.change else ""
        row = {"verdict": verdict.kind.value, "case": verdict.name, "change [interval]": change}
        rows.append(row | {"because": verdict.detail})
    return Table.of("Verdicts", rows, sortable=True)


def _missing(sentence: str, command: str) -> list[Block]:
    return [Sentence(f"{sentence} This does it:"), Command(command)]


def _numerics(run: SavedRun, earlier: Sequence[SavedRun]) -> list[Block]:
    return numerics_blocks([case.record for case in run.of(NUMERICS).values()])


SECTIONS: tuple[tuple[str, str, Callable[[SavedRun, Sequence[SavedRun]], Sequence[Block]]], ...] = (
    ("speedup", "Speedup", _speedup),
    ("tables", "The thesis's tables, as measured here", _tables),
    ("rounds", "Every round, in the order measured", _rounds),
    ("numerics", "Is it safe? Numerics", _numerics),
    ("accuracy", "Accuracy", _accuracy),
    ("resources", "Memory, energy, images per second", _resources),
    ("causes", "Why: where the time goes", _causes),
    ("history", "Against earlier runs", _history),
    ("environment", "Environment and raw numbers", environment.blocks),
)
"""Name of the anchor, title, and what makes the blocks."""

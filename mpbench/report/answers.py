"""The verdict: does mixed precision pay here, for which model and phase, at what cost, and is it safe.

Pure functions from a run's records to sentences; nothing is claimed that an interval does not show.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from enum import Enum

from mpbench.config.precisions import PRECISIONS
from mpbench.records.arms import Arms
from mpbench.records.numerics import NUMERICS, Safety
from mpbench.records.runs import SavedRun
from mpbench.records.speed import SpeedCase
from mpbench.report.accuracy import in_words
from mpbench.report.labels import by_phase, device_label, each
from mpbench.report.marks import marked
from mpbench.why.reading.matched import StepRecords, matched
from mpbench.why.reading.words import listed, speedup_label, times_label


class Direction(Enum):
    """Which side of 1 the whole interval of a speedup lies on."""

    FASTER = "faster"
    SLOWER = "slower"
    UNCLEAR = "no difference that this run could tell"


MAX_LINES = 8
"""Of the verdict: more are not read."""

MAX_ACCURACY_LINES = 3


def answers(run: SavedRun) -> list[str]:
    """The verdict in at most MAX_LINES lines, the first for whoever reads one only: the report's first box, the
    terminal's last lines and the first paragraph of its Markdown.

    Each line is carried by what this run has measured: whether it pays, by how much, why not more, what it costs in
    memory, energy and accuracy, and whether it is safe.
    """
    compared = [case for case in run.speed.values() if case.record.interval and not case.record.control]
    compared = [case for case in compared if not case.record.point] or compared
    # Strict float32 beside tf32 is no mixed precision: nobody asks whether to switch it on.
    half = [case for case in compared if _is_half(case.record.precision)]
    compared = half or compared
    precisions = list(dict.fromkeys(case.record.precision for case in compared))
    if not precisions:
        return [_no_speedup(run), *_numerics(run, ""), *_accuracy(run, speed=False)][:MAX_LINES]
    first, *others = precisions
    by_precision = {name: [case for case in compared if case.record.precision == name] for name in precisions}
    lines = [f"{_recommendation(run, first, by_precision[first])}: {_verdict(first, by_precision[first])}"]
    lines += [_detail(phase, cases) for phase, cases in by_phase(by_precision[first]).items()]
    lines += _reason(run)
    lines += _resources(run, by_precision[first])
    lines += _numerics(run, first)
    accuracy = _accuracy(run, speed=True)
    # Of further precisions the figure below has the intervals.
    rest = [_capitalized(_verdict(name, by_precision[name])) for name in others]
    rest = rest[: max(0, MAX_LINES - len(lines) - len(accuracy))]
    return [*lines, *rest, *accuracy][:MAX_LINES]


def _is_half(precision: str) -> bool:
    return precision not in PRECISIONS or PRECISIONS[precision].policy != "float32"


def _capitalized(text: str) -> str:
    return text[:1].upper() + text[1:]


def _recommendation(run: SavedRun, precision: str, cases: Sequence[SpeedCase]) -> str:
    directions = {_direction(case) for case in cases}
    if Direction.FASTER not in directions:
        return "It does not pay here"
    records = [case.record for case in run.of(NUMERICS).values() if case.record.precision == precision]
    if any(r.verdict == Safety.BREAKS.value for r in records):
        return "It pays, but it is not safe as it is"
    if any(case.record.precision == precision and case.record.differs for case in run.accuracy.values()):
        return "It pays, but accuracy differs"
    if directions != {Direction.FASTER}:
        return "It pays in part"
    if any(r.verdict == Safety.WATCH.value for r in records):
        return "Switch it on, and watch what is named below"
    return "Switch it on"


def _verdict(precision: str, cases: Sequence[SpeedCase]) -> str:
    """Whether a precision pays, by phase."""
    device = each(device_label(case.record) for case in cases)
    name = f"mixed precision ({precision})" if precision.startswith("mixed_") else precision
    verdicts = "; ".join(_in_phase(phase, in_phase) for phase, in_phase in by_phase(cases).items())
    return f"{name} on {device} {verdicts}."


def _reason(run: SavedRun) -> list[str]:
    """Why the step that gains least gains no more, as far as its profile tells."""
    told = [(step, step.verdict) for step in matched([run]).steps]
    told = [(step, sentences) for step, sentences in told if sentences]
    if not told:
        return []

    def speedup(step: StepRecords) -> float:
        return min((case.record.speedup or math.inf for case, _ in step.cases.values()), default=math.inf)

    step, sentences = min(told, key=lambda each: speedup(each[0]))
    return [f"Why not more, {step.setting.step}: {sentences[0]}"]


def _resources(run: SavedRun, cases: Sequence[SpeedCase]) -> list[str]:
    """Memory and energy of the training steps, on a GPU."""
    arms, parts = Arms(run.speed.values()), []
    for case in cases:
        base = arms.baseline_of(case)
        if base is None or case.record.memory_kind != "device" or case.record.phase != "training":
            continue
        ratio = case.record.peak_memory_bytes / base.record.peak_memory_bytes
        text = f"{case.record.name} memory x {ratio:.2f}"
        mine, theirs = case.record.joules_per_image, base.record.joules_per_image
        parts.append(f"{text}, energy x {mine / theirs:.2f}" if mine and theirs else text)
    return [f"In training, of {each(case.record.baseline for case in cases)}'s: {'; '.join(parts)}."] if parts else []


def _numerics(run: SavedRun, precision: str) -> list[str]:
    """Whether it is safe; of the first precision, or of all where none is named."""
    records = [case.record for case in run.of(NUMERICS).values()]
    records = [r for r in records if not precision or r.precision == precision]
    if not records:
        return []
    found = {safety: [r for r in records if r.verdict == safety.value] for safety in Safety}
    if bad := found[Safety.BREAKS] or found[Safety.WATCH]:
        r = bad[0]
        helps = next((f"; {one.what} helps, as tried" for one in r.remedies if one.helps), "")
        more = f" (and {len(bad) - 1} more)" if len(bad) > 1 else ""
        return [f"Numerics: {r.verdict}, {r.model} {r.phase}: {r.sentence}{helps}{more}."]
    tight = min(records, key=lambda r: math.inf if r.headroom_log2 is None else r.headroom_log2)
    steps = f"{len(records)} step{'' if len(records) == 1 else 's'}, the tightest {tight.model} {tight.phase}"
    return [f"Numerics: SAFE in {steps}: {tight.sentence}."]


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
    if run.of(NUMERICS):
        return "Whether mixed precision pays was not measured in this run, only whether it is safe."
    if run.accuracy:
        return "Whether mixed precision is faster was not measured in this run, only what it costs in accuracy."
    return "Whether mixed precision pays was not measured in this run, only where the time of its step goes."


def _accuracy(run: SavedRun, speed: bool) -> list[str]:
    records = [case.record for case in run.accuracy.values()]
    if len(records) > MAX_ACCURACY_LINES:
        different = [r for r in records if r.differs]
        shown = different or records
        return [f"Accuracy ({len(records)} comparisons): {in_words(shown[0])}."]
    sentences = [f"Accuracy: {in_words(record)}." for record in records]
    return sentences or (["What it costs in accuracy was not measured in this run."] if speed else [])

"""The figures of one run: speedups, memory, energy, throughput, rounds, accuracy. Pure: from cases to drawings.

`cause_figures.py` explains a step, `history_figures.py` compares runs, `svg.py` writes drawings.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import FuncFormatter, MaxNLocator

from mpbench.errors import printable
from mpbench.records.accuracy import AccuracyRecord
from mpbench.records.arms import Arms
from mpbench.records.rounds import numbers
from mpbench.records.speed import SpeedCase, SpeedRecord
from mpbench.report import thesis
from mpbench.report.accuracy import difference_label, finding, is_the_thesis_pair
from mpbench.report.content import Drawing
from mpbench.report.drawing import (
    FAINT,
    INK,
    MOST_PANELS,
    Row,
    add_keys,
    drawn_rows,
    fitted,
    look,
    named,
    rows_of_cases,
    rows_under_headings,
    stacked,
    style,
)
from mpbench.report.labels import MIB, arm_label, group_label, interval_label
from mpbench.report.marks import marks_beside
from mpbench.report.speed_tables import joules_label
from mpbench.stats.contingency import Contingency

LABEL_CHARACTERS = 16
"""Longer words about a comparison of accuracy take several lines."""

MOST_MARKS = 2000
"""In a panel of rounds, which has no more pixels than that."""

MOST_NAMED_BLOCKS = 100

LEAST_SPAN = 0.04
"""A panel of rounds is at least so high, relative to their median: noise of a thousandth must not look large."""

OF_THE_THESIS: dict[str, Any] = {
    "marker": "D",
    "markerfacecolor": "none",
    "markeredgecolor": INK,
    "linestyle": "none",
    "label": f"thesis ({thesis.DEVICE})",
}


def speedups(cases: Sequence[SpeedCase]) -> Drawing | None:
    """Each case's speedup over its baseline with its 95 % interval, a panel per phase, the thesis's ratios beside them.

    Args:
        cases: of one run. Swept points and modes have rows of their own; so has a control, the noise floor.

    Returns:
        None where no case has a speedup.
    """
    arms = Arms(cases)
    shown, more = drawn_rows([case for case in cases if case.record.interval])
    if not shown:
        return None
    beside = {id(case): [mark.value for mark in marks_beside(case, arms.baseline_of(case))] for case in shown}
    asides = ["\n".join([interval_label(case.record.interval), *beside[id(case)]]) for case in shown]
    over = printable("/".join(dict.fromkeys(str(case.record.baseline) for case in shown)))
    sentences, values = [], [1.0]
    with style():
        keys = [Line2D([], [], **OF_THE_THESIS)] if any(_thesis_ratio(case.record) for case in shown) else []
        figure, places = rows_of_cases(shown, asides, keys, f"speedup over {fitted(over)}")
        for case, panel, y in places:
            r, was = case.record, _thesis_ratio(case.record)
            _interval(panel, y, (r.speedup_low, r.speedup, r.speedup_high), r.precision)
            if was is not None:
                panel.plot([was], [y], markersize=6.5, **OF_THE_THESIS)
            values += filter(None, [r.speedup_low, r.speedup_high, was])
            label = ", ".join([interval_label(r.interval), *beside[id(case)]])
            then = f"; thesis {was:.2f}" if was is not None else ""
            sentences.append(printable(f"{r.name}, {r.phase}, {arm_label(r)}: {label}{then}."))
        room = 0.05 * (max(values) - min(values))
        for panel in figure.axes:
            panel.axvline(1, color=INK, linewidth=1)
            panel.set_xlim(min(values) - room, max(values) + room)
            panel.xaxis.set_major_locator(MaxNLocator(6))
            panel.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    title = f"Speedup over {over}, with 95 % intervals{more}"
    return Drawing("speedups", title, f"Right of 1 is faster. {' '.join(sentences)}", figure)


def memory(cases: Sequence[SpeedCase]) -> Drawing | None:
    """Peak memory of the device; None on a CPU: there only the whole process's memory is known."""
    bars = [
        Bar(case, r.peak_memory_bytes / MIB, f"{r.peak_memory_bytes / MIB:,.0f}")
        for case in _with_bars(cases)
        if (r := case.record).memory_kind == "device"
    ]
    return _drawn_bars("memory", "Peak memory of the device", "MiB", bars)


def energy(cases: Sequence[SpeedCase]) -> Drawing | None:
    """Energy per image with the spread of its passes to either side; None where it was not measured."""
    bars = [
        Bar(case, joules, joules_label(case.record), (case.record.joules_spread or 0.0) * joules)
        for case in _with_bars(cases)
        if (joules := case.record.joules_per_image)
    ]
    return _drawn_bars("energy", "Energy per image", "J/image", bars)


def throughput(cases: Sequence[SpeedCase]) -> Drawing | None:
    """Images per second at the median round; None without cases."""
    rates = [(case, case.record.images_per_second) for case in _with_bars(cases)]
    bars = [Bar(case, rate, f"{rate:,.1f}") for case, rate in rates]
    return _drawn_bars("throughput", "Images per second", "images/s", bars)


@dataclass(frozen=True)
class Bar:
    """One bar.

    Attributes:
        case: the case that it shows.
        value: its length.
        label: the same as text.
        spread: to either side of its end; 0 where there is none.
    """

    case: SpeedCase
    value: float
    label: str
    spread: float = 0.0


def _with_bars(cases: Sequence[SpeedCase]) -> list[SpeedCase]:
    """All but controls, which repeat their baseline."""
    return [case for case in cases if not case.record.control]


def _drawn_bars(name: str, title: str, unit: str, bars: Sequence[Bar]) -> Drawing | None:
    """A panel per phase; None without bars."""
    if not bars:
        return None
    bars, more = drawn_rows(bars)
    of_case, sentences = {id(bar.case): bar for bar in bars}, []
    with style():
        figure, places = rows_of_cases([bar.case for bar in bars], [bar.label for bar in bars], [], unit)
        for case, panel, y in places:
            bar, r = of_case[id(case)], case.record
            panel.barh(y, bar.value, 0.7, color=look(r.precision)[0])
            if bar.spread:
                ends = [bar.value - bar.spread, bar.value + bar.spread]
                panel.plot(ends, [y, y], color=INK, linewidth=0.8, marker="|", markersize=5)
            sentences.append(printable(f"{r.name}, {r.phase}, {arm_label(r)}: {bar.label} {unit}."))
        for panel in figure.axes:
            panel.set_xlim(0)
            panel.xaxis.set_major_locator(MaxNLocator(5))
            panel.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.4g}"))
    return Drawing(name, f"{title}{more}", " ".join(sentences), figure)


def step_times(cases: Sequence[SpeedCase]) -> list[Drawing]:
    """Every round in the order measured, a drawing per model and phase, in it a panel per precision and mode.

    Args:
        cases: of one run. Those of one model, variant and phase were measured in turns and share the numbers of blocks.
    """
    groups: dict[tuple[str, str], list[SpeedCase]] = {}
    for case in cases:
        groups.setdefault((group_label(case.record), case.record.phase), []).append(case)
    return named(_rounds_of(name, phase, group) for (name, phase), group in groups.items())


def accuracy_differences(records: Sequence[AccuracyRecord]) -> Drawing:
    """Accuracy less the baseline's with Tango's 95 % interval, against the band of the equivalence margin.

    Args:
        records: at least one.
    """
    records, more = drawn_rows(records)
    rows, sentences = [], []
    for r in records:
        name, found = f"{r.model}, {r.precision} against {r.baseline}", finding(r)
        estimate, _, interval = difference_label(r).partition(" ")
        rows.append(Row(printable(name), textwrap.fill(found.value, LABEL_CHARACTERS), f"{estimate}\n{interval}"))
        text = f"{name}: {estimate} points {interval}, margin {100 * r.margin:g}: {found.value}."
        sentences.append(printable(text))
    with style():
        keys: list[Line2D | Patch] = [Patch(facecolor=FAINT, label="within the margin")]
        if any(is_the_thesis_pair(r) for r in records):
            keys.append(Line2D([], [], **OF_THE_THESIS))
        x_label = "accuracy less the baseline's, percentage points"
        figure, (panel,), (ys,) = rows_under_headings(["Validation accuracy"], [rows], keys, x_label)
        panel.axvline(0, color=INK, linewidth=1)
        for y, r in zip(ys, records, strict=True):
            band = Rectangle((-100 * r.margin, y - 0.75), 200 * r.margin, 1.5, facecolor=FAINT, zorder=0.5)
            panel.add_patch(band)
            ends = [100 * share for share in (r.difference_low, r.difference, r.difference_high)]
            _interval(panel, y, ends, r.precision)
            if is_the_thesis_pair(r):
                panel.plot([_thesis_points(r.model)], [y], markersize=6.5, **OF_THE_THESIS)
        panel.margins(x=0.05)
    title = f"Difference in validation accuracy, with 95 % intervals, against the equivalence margin{more}"
    return Drawing("accuracy", title, " ".join(sentences), figure)


def _thesis_points(model: str) -> float:
    """The difference in percentage points, from Table 3: its counts come from one pair of runs."""
    counts = Contingency(*thesis.CONTINGENCY[model])
    return 100 * (counts.second_accuracy - counts.first_accuracy)


def _thesis_ratio(r: SpeedRecord) -> float | None:
    was = thesis.MS_PER_STEP.get((r.model, r.phase))
    if was is None or r.control or (r.baseline, r.precision) != ("float32", "mixed_float16"):
        return None
    return was[0] / was[1]


def _rounds_of(name: str, phase: str, cases: Sequence[SpeedCase]) -> Drawing:
    """One group's rounds."""
    cases, more = drawn_rows(cases, MOST_PANELS)
    with style():
        figure, panels = stacked([1.05] * len(cases), left=0.62, right=0.15, between=0.38, top=0.3, bottom=0.45)
        last = max(max([*case.blocks, *numbers(case.record.unpaired_blocks)]) for case in cases)
        keys: dict[str, Line2D] = {}
        for panel, case in zip(panels, cases, strict=True):
            keys |= _draw_rounds(panel, case)
            panel.set_xlim(-0.02 * last - 0.5, 1.02 * last + 0.5)
            panel.grid(axis="y")
            panel.yaxis.set_major_locator(MaxNLocator(4))
            panel.xaxis.set_major_locator(MaxNLocator(8, integer=True))
            panel.set_ylabel("ms/step")
            panel.tick_params(labelbottom=panel is panels[-1])
        panels[-1].set_xlabel("block, in the order measured")
        add_keys(figure, list(keys.values()))
    sentences = " ".join(_rounds_in_words(case) for case in cases)
    title = f"Every round of {printable(name)}, {printable(phase)}, in the order measured{more}"
    return Drawing(f"rounds {name} {phase}", title, sentences, figure)


def _draw_rounds(panel: Any, case: SpeedCase) -> dict[str, Line2D]:
    """One case's rounds; returns the marks that the key must explain."""
    r, median_ms = case.record, 1000 * case.median_seconds
    rounds_ms = [(block, 1000 * seconds) for block, seconds in zip(case.blocks, case.rounds, strict=True)]
    slow = numbers(r.throttled_blocks)
    calm = _thinned([(block, ms) for block, ms in rounds_ms if block not in slow])
    hot = _thinned([(block, ms) for block, ms in rounds_ms if block in slow])
    out = sorted(numbers(r.unpaired_blocks))[:MOST_MARKS]
    colour, marker = look(r.precision)
    panel.axhline(median_ms, color=INK, linewidth=0.8, linestyle="--", zorder=1)
    panel.plot(*_with_gaps(calm), color=colour, marker=marker, markersize=3, linewidth=0.6)
    keys: dict[str, Line2D] = {}
    alone = {"color": INK, "linestyle": "none"}
    if hot:
        blocks, ms = zip(*hot, strict=True)
        (keys["throttled"],) = panel.plot(blocks, ms, marker="x", markersize=5, label="throttled round", **alone)
    if out:
        low_down = {"marker": "|", "markersize": 6, "transform": panel.get_xaxis_transform()}
        (keys["out"],) = panel.plot(out, [0.06] * len(out), label="block left out", **low_down, **alone)
    every = [ms for _, ms in rounds_ms]
    low, high = min([*every, median_ms * (1 - LEAST_SPAN / 2)]), max([*every, median_ms * (1 + LEAST_SPAN / 2)])
    panel.set_ylim(low - 0.15 * (high - low), high + 0.08 * (high - low))
    words = [mark.value for mark in marks_beside(case)]
    panel.set_title(", ".join([f"{fitted(arm_label(r))}: median {median_ms:.4g} ms", *words]))
    return keys


def _rounds_in_words(case: SpeedCase) -> str:
    r, ms = case.record, [1000 * seconds for seconds in case.rounds]
    third = max(1, len(ms) // 3)
    parts = [
        f"{arm_label(r)}: {len(ms)} {'round' if len(ms) == 1 else 'rounds'} of {r.steps_per_round} "
        f"{'step' if r.steps_per_round == 1 else 'steps'}, median {1000 * case.median_seconds:.4g} ms, "
        f"from {min(ms):.4g} to {max(ms):.4g} ms"
    ]
    if len(ms) > 2:
        first, last = sum(ms[:third]) / third, sum(ms[-third:]) / third
        parts.append(f"the last third is {100 * (last / first - 1):+.1f} % from the first")
    if len(ms) > MOST_MARKS:
        parts.append("drawn are the least and the largest of neighbours")
    if r.throttled_blocks:
        parts.append(f"throttled in blocks {_some(r.throttled_blocks)}")
    if r.unpaired_blocks:
        parts.append(f"blocks left out: {_some(r.unpaired_blocks)}")
    return printable(f"{'; '.join([*parts, *(mark.value for mark in marks_beside(case))])}.")


def _some(blocks: str) -> str:
    """The numbers; if they are many, the first ones and how many there are."""
    found = blocks.split(",")
    return blocks if len(found) <= MOST_NAMED_BLOCKS else f"{','.join(found[:MOST_NAMED_BLOCKS])}... ({len(found)})"


def _thinned(points: list[tuple[int, float]]) -> list[tuple[int, float]]:
    """All points, or if they are too many the least and the largest of each stretch of neighbours."""
    if len(points) <= MOST_MARKS:
        return points
    size = -(-2 * len(points) // MOST_MARKS)
    parts = [points[start : start + size] for start in range(0, len(points), size)]
    ends = [sorted((min(part, key=itemgetter(1)), max(part, key=itemgetter(1)))) for part in parts]
    return [point for two in ends for point in dict.fromkeys(two)]


def _with_gaps(points: Sequence[tuple[int, float]]) -> tuple[list[float], list[float]]:
    """Blocks and values of a line that is broken where a block is missing."""
    blocks: list[float] = []
    values: list[float] = []
    for block, value in points:
        if blocks and block != blocks[-1] + 1:
            blocks.append(math.nan)
            values.append(math.nan)
        blocks.append(float(block))
        values.append(value)
    return blocks, values


def _interval(panel: Any, y: float, ends: Sequence[float | None], precision: str) -> None:
    """A row's low end, estimate and high end."""
    low, estimate, high = ends
    colour, marker = look(precision)
    panel.plot([low, high], [y, y], color=colour, linewidth=1.6, marker="|", markersize=7)
    panel.plot([estimate], [y], marker, color=colour, markersize=4)

"""The figures of a report, all under one name: here speedups, rounds and accuracy, from records.

Pure: records in, `content.Drawing` out. Bars are in `bar_figures.py`, what explains a step in `cause_figures.py`, what
went over several runs in `history_figures.py`; `svg.py` writes drawings.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from operator import itemgetter
from typing import Any

from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator

from mpbench.errors import printable
from mpbench.records.accuracy import AccuracyRecord
from mpbench.records.arms import Arms
from mpbench.records.rounds import numbers
from mpbench.records.speed import CaseRecord, SpeedCase
from mpbench.report import thesis
from mpbench.report.accuracy_tables import in_words, is_the_thesis_pair
from mpbench.report.bar_figures import energy, memory, throughput
from mpbench.report.case_rows import arm, arm_in_full, by_phase, heading
from mpbench.report.cause_figures import causes, rooflines
from mpbench.report.content import Drawing
from mpbench.report.drawing import (
    FAINT,
    INK,
    MOST_PANELS,
    Row,
    add_keys,
    drawn_rows,
    fitted,
    looks,
    named,
    rows_under_headings,
    stacked,
    style,
)
from mpbench.report.history_figures import histories
from mpbench.report.svg import FIGURE_CSS, save, svg_text
from mpbench.report.tables import marks
from mpbench.stats.contingency import Contingency

__all__ = [
    "FIGURE_CSS",
    "accuracy_differences",
    "causes",
    "energy",
    "histories",
    "memory",
    "rooflines",
    "save",
    "speedups",
    "step_times",
    "svg_text",
    "throughput",
]

WIDE_RATIO = 10.0
"""Largest over smallest value from which on an axis is logarithmic."""

MOST_MARKS = 2000
"""Of a panel of rounds, which has no more pixels than that."""

MOST_NAMED_BLOCKS = 100

LEAST_SPAN = 0.04
"""Least height of a panel of rounds, over their median: noise of a thousandth shall not look like mountains."""


def speedups(cases: Sequence[SpeedCase]) -> Drawing | None:
    """Each case's speedup over its baseline with its 95 % interval, a panel per phase, the thesis's ratios beside them.

    Args:
        cases: of one run. Swept points and modes have rows of their own; so has a control, the noise floor.

    Returns:
        None where no case has a speedup.
    """
    arms = Arms(cases)
    with_interval, more = drawn_rows([case for case in cases if case.record.interval])
    if not with_interval:
        return None
    shown = [case.record for case in with_interval]
    words = {id(case.record): marks(case, arms.baseline_of(case)) for case in with_interval}
    phases = by_phase(shown)
    rows = [[_speedup_row(r, words[id(r)]) for r in of] for of in phases.values()]
    of_precision = looks(r.precision for r in shown)
    over = printable("/".join(dict.fromkeys(str(r.baseline) for r in shown)))
    with style():
        hollow = Line2D(
            [],
            [],
            marker="D",
            markerfacecolor="none",
            markeredgecolor=INK,
            linestyle="none",
            label=f"thesis ({thesis.DEVICE})",
        )
        referenced = any(_thesis_ratio(r) for r in shown)
        figure, panels, places = rows_under_headings(
            [phase.capitalize() for phase in phases],
            rows,
            [hollow] if referenced else [],
            f"speedup over {fitted(over)}",
        )
        ends = [1.0, *(v for r in shown for v in (r.speedup_low, r.speedup_high, _thesis_ratio(r)) if v)]
        for panel, ys, of in zip(panels, places, phases.values(), strict=True):
            panel.axvline(1, color=INK, linewidth=1)
            for y, r in zip(ys, of, strict=True):
                colour, marker = of_precision[r.precision]
                _interval(panel, y, (r.speedup_low, r.speedup, r.speedup_high), colour, marker)
                if (was := _thesis_ratio(r)) is not None:
                    panel.plot([was], [y], "D", markersize=6.5, markerfacecolor="none", markeredgecolor=INK)
            _value_axis(panel, ends)
    sentences = [_speedup_in_words(r, words[id(r)]) for r in shown]
    title = f"Speedup over {over}, with 95 % intervals{more}"
    return Drawing("speedups", title, f"Right of 1 is faster. {' '.join(sentences)}", figure)


def step_times(cases: Sequence[SpeedCase]) -> list[Drawing]:
    """Every round in the order measured, a drawing per model and phase, in it a panel per precision and mode.

    Args:
        cases: of one run. Those of one model, variant and phase were measured in turns and share the numbers of blocks.
    """
    groups: dict[tuple[str, str, str], list[SpeedCase]] = {}
    for case in cases:
        r = case.record
        groups.setdefault((r.model, r.variant, r.phase), []).append(case)
    return named(_rounds_of(" ".join(filter(None, key[:2])), key[2], of) for key, of in groups.items())


def accuracy_differences(records: Sequence[AccuracyRecord]) -> Drawing | None:
    """Accuracy less the baseline's with Tango's 95 % interval, against the band of the equivalence margin."""
    if not records:
        return None
    records, more = drawn_rows(records)
    rows = []
    for r in records:
        values = f"{100 * r.difference:+.2f}\n[{100 * r.difference_low:+.2f}, {100 * r.difference_high:+.2f}]"
        verdict = "NOT SHOWN TO BE\nEQUIVALENT" if _verdict(r).startswith("NOT") else _verdict(r)
        rows.append(Row(printable(f"{r.model}, {r.precision} against {r.baseline}"), verdict, values))
    with style():
        keys: list[Line2D | Patch] = [Patch(facecolor=FAINT, label="within the margin")]
        if any(is_the_thesis_pair(r) for r in records):
            keys.append(
                Line2D(
                    [], [], marker="D", markerfacecolor="none", markeredgecolor=INK, linestyle="none", label="thesis"
                )
            )
        label = "accuracy less the baseline's, percentage points"
        figure, (panel,), (ys,) = rows_under_headings(["Validation accuracy"], [rows], keys, label)
        panel.axvline(0, color=INK, linewidth=1)
        for y, r in zip(ys, records, strict=True):
            band = Rectangle((-100 * r.margin, y - 0.75), 200 * r.margin, 1.5, facecolor=FAINT, zorder=0.5)
            panel.add_patch(band)
            points = tuple(100 * share for share in (r.difference_low, r.difference, r.difference_high))
            _interval(panel, y, points, *looks([r.precision])[r.precision])
            if is_the_thesis_pair(r):
                panel.plot(
                    [_thesis_points(r.model)], [y], "D", markersize=6.5, markerfacecolor="none", markeredgecolor=INK
                )
        panel.margins(x=0.05)
    sentences = [
        f"{printable(f'{r.model}, {r.precision} against {r.baseline}')}: {100 * r.difference:+.2f} points "
        f"[{100 * r.difference_low:+.2f}, {100 * r.difference_high:+.2f}], margin {100 * r.margin:g}: {_verdict(r)}."
        for r in records
    ]
    title = f"Difference in validation accuracy, with 95 % intervals, against the equivalence margin{more}"
    return Drawing("accuracy", title, " ".join(sentences), figure)


def _verdict(record: AccuracyRecord) -> str:
    return in_words(record).partition(":")[0]


def _thesis_points(model: str) -> float:
    """Of Table 3, whose counts are of one pair of runs: percentage points."""
    counts = Contingency(*thesis.CONTINGENCY[model])
    return 100 * (counts.second_accuracy - counts.first_accuracy)


def _speedup_row(r: CaseRecord, words: Sequence[str]) -> Row:
    values = f"{_ratio(r.speedup)} [{_ratio(r.speedup_low)}, {_ratio(r.speedup_high)}]"
    return Row(heading(r), arm(r), "\n".join([values, *words]))


def _speedup_in_words(r: CaseRecord, words: Sequence[str]) -> str:
    was = _thesis_ratio(r)
    beside = f"; thesis {was:.2f}" if was is not None else ""
    noted = f", {', '.join(words)}" if words else ""
    return (
        f"{printable(r.name)}, {printable(r.phase)}, {arm_in_full(r)}: {r.speedup:.3f} "
        f"[{r.speedup_low:.3f}, {r.speedup_high:.3f}]{noted}{beside}."
    )


def _ratio(value: float | None) -> str:
    """As the tables have it; of what no machine does no more than its size."""
    return "" if value is None else f"{value:.3f}" if value < 1000 else f"{value:.3g}"


def _thesis_ratio(r: CaseRecord) -> float | None:
    was = thesis.MS_PER_STEP.get((r.model, r.phase))
    if was is None or r.control or (r.baseline, r.precision) != ("float32", "mixed_float16"):
        return None
    return was[0] / was[1]


def _rounds_of(name: str, phase: str, cases: Sequence[SpeedCase]) -> Drawing:
    """One group's rounds."""
    cases, more = drawn_rows(cases, MOST_PANELS)
    of_precision = looks(case.record.precision for case in cases)
    with style():
        figure, panels = stacked([1.05] * len(cases), left=0.62, right=0.15, between=0.38, top=0.3, bottom=0.45)
        last = max((max([*case.blocks, *numbers(case.record.unpaired_blocks)]) for case in cases), default=0)
        keys: dict[str, Line2D] = {}
        for panel, case in zip(panels, cases, strict=True):
            r, ms = case.record, [1000 * seconds for seconds in case.rounds]
            colour, marker = of_precision[r.precision]
            slow = numbers(r.throttled_blocks)
            calm = _thinned([(block, one) for block, one in zip(case.blocks, ms, strict=True) if block not in slow])
            hot = _thinned([(block, one) for block, one in zip(case.blocks, ms, strict=True) if block in slow])
            median = 1000 * case.median_seconds
            panel.axhline(median, color=INK, linewidth=0.8, linestyle="--", zorder=1)
            panel.plot(*_with_gaps(calm), color=colour, marker=marker, markersize=3, linewidth=0.6)
            if hot:
                (keys["throttled"],) = panel.plot(
                    *zip(*hot, strict=True),
                    color=INK,
                    marker="x",
                    markersize=5,
                    linestyle="none",
                    label="throttled round",
                )
            if out := sorted(numbers(r.unpaired_blocks))[:MOST_MARKS]:
                (keys["out"],) = panel.plot(
                    out,
                    [0.06] * len(out),
                    color=INK,
                    marker="|",
                    markersize=6,
                    linestyle="none",
                    transform=panel.get_xaxis_transform(),
                    label="block left out",
                )
            low, high = min([*ms, median * (1 - LEAST_SPAN / 2)]), max([*ms, median * (1 + LEAST_SPAN / 2)])
            panel.set_ylim(low - 0.15 * (high - low), high + 0.08 * (high - low))
            panel.set_xlim(-0.02 * last - 0.5, 1.02 * last + 0.5)
            panel.set_title(", ".join([f"{arm(r)}: median {median:.4g} ms", *marks(case, None)]))
            panel.grid(axis="y")
            panel.yaxis.set_major_locator(MaxNLocator(4))
            panel.xaxis.set_major_locator(MaxNLocator(8, integer=True))
            panel.set_ylabel("ms/step")
            panel.tick_params(labelbottom=panel is panels[-1])
        panels[-1].set_xlabel("block, in the order measured")
        add_keys(figure, list(keys.values()))
    sentences = " ".join(_rounds_in_words(case) for case in cases)
    whose = f"{printable(name)}, {printable(phase)}"
    return Drawing(f"rounds {name} {phase}", f"Every round of {whose}, in the order measured{more}", sentences, figure)


def _rounds_in_words(case: SpeedCase) -> str:
    r, ms = case.record, [1000 * seconds for seconds in case.rounds]
    third = max(1, len(ms) // 3)
    parts = [
        f"{arm_in_full(r)}: {len(ms)} {'round' if len(ms) == 1 else 'rounds'} of {r.steps_per_round} "
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
    return f"{'; '.join([*parts, *marks(case, None)])}."


def _some(blocks: str) -> str:
    """Of many numbers the first, and how many."""
    found = blocks.split(",")
    return blocks if len(found) <= MOST_NAMED_BLOCKS else f"{','.join(found[:MOST_NAMED_BLOCKS])}... ({len(found)})"


def _thinned(points: list[tuple[int, float]]) -> list[tuple[int, float]]:
    """The same, or of more than MOST_MARKS the least and the largest of as many neighbours each as it takes."""
    if len(points) <= MOST_MARKS:
        return points
    of = -(-2 * len(points) // MOST_MARKS)
    parts = [points[start : start + of] for start in range(0, len(points), of)]
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


def _interval(panel: Any, y: float, of: Sequence[float | None], colour: str, marker: str) -> None:
    """A row's low end, estimate and high end."""
    low, estimate, high = of
    panel.plot([low, high], [y, y], color=colour, linewidth=1.6, marker="|", markersize=7)
    panel.plot([estimate], [y], marker, color=colour, markersize=4)


def _value_axis(panel: Any, values: Sequence[float]) -> None:
    """An axis of ratios that shows all values, logarithmic where they lie far apart."""
    low, high = min(values), max(values)
    axis = panel.xaxis
    if high / low > WIDE_RATIO:
        panel.set_xscale("log")
        panel.set_xlim(low / 1.1, high * 1.1)
    else:
        room = 0.05 * (high - low) or 0.05
        panel.set_xlim(low - room, high + room)
        axis.set_major_locator(MaxNLocator(6))
    axis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    axis.set_minor_locator(NullLocator())

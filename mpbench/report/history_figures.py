"""How figures went over several runs, drawn: medians and speedups with the steps that were detected.

`history/series.py` decides what forms a series and draws it.
"""

from __future__ import annotations

from collections.abc import Sequence

from mpbench.errors import printable
from mpbench.history.series import MIN_RUNS, TIMES, Series, all_series, described, draw
from mpbench.records.runs import SavedRun
from mpbench.report.content import Drawing
from mpbench.report.drawing import MOST_PANELS, SMALL_POINTS, WIDTH_INCHES, drawn_rows, fitted, named, stacked, style

MIN_SHOWN_RUNS = 2
HEIGHT_INCHES, LEFT_INCHES = 1.3, 0.75
"""A panel's height, and the margin left of it."""


def histories(runs: Sequence[SavedRun]) -> list[Drawing]:
    """Median times and speedups over the runs, a drawing for the cases of one model and phase.

    Args:
        runs: in any order. A series of one run is left out.
    """
    ordered = sorted(runs, key=lambda run: (run.time, run.path))
    groups: dict[tuple[str, str], list[Series]] = {}
    for series in all_series(ordered):
        if len(series.values) >= MIN_SHOWN_RUNS:
            record = series.runs[-1].speed[series.case].record
            groups.setdefault((record.name, record.phase), []).append(series)
    return named(_history(name, phase, group) for (name, phase), group in groups.items())


def _history(name: str, phase: str, series: Sequence[Series]) -> Drawing:
    series, more = drawn_rows(series, MOST_PANELS)
    heights = [HEIGHT_INCHES] * len(series)
    with style():
        figure, panels = stacked(heights, left=LEFT_INCHES, right=0.2, between=0.75, top=0.5, bottom=0.5)
        for s, panel in zip(series, panels, strict=True):
            draw(s, panel)
            lines = panel.get_title("left").split("\n")
            room = WIDTH_INCHES - LEFT_INCHES - 0.1
            panel.set_title("\n".join(fitted(line, room) for line in lines), fontsize=SMALL_POINTS)
            panel.set_ylabel(fitted(panel.get_ylabel(), HEIGHT_INCHES))
    title = f"{printable(name)}, {printable(phase)}: medians and speedups over the runs{more}"
    return Drawing(f"history {name} {phase}", title, " ".join(map(_in_words, series)), figure)


def _in_words(s: Series) -> str:
    figure, scale, unit = ("median", 1000.0, " ms") if s.figure == TIMES else ("speedup", 1.0, "")
    ends = f"{scale * s.values[0]:.4g}{unit} in the first, {scale * s.values[-1]:.4g}{unit} in the last"
    if len(s.values) < MIN_RUNS:
        steps = f"steps need {MIN_RUNS} runs"
    else:
        steps = "; ".join(f"step of {described(s, step)}" for step in s.steps) or "no step"
    label = f" ({printable(s.label)})" if s.label else ""
    return f"{printable(s.case)}{label}, {figure}: {len(s.values)} runs, {ends}; {steps}."

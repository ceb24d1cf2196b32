"""How figures went over the saved runs: series, and what is shown of them as lines of text, plain data and a picture.

Only figures of one case in one configuration are in a series; what was measured otherwise is another one.
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property
from typing import Any

import numpy as np

from mpbench.records.comparable import configuration, in_words
from mpbench.records.runs import SavedRun
from mpbench.stats.change_points import MIN_SIZE, Step, change_points
from mpbench.stats.long_run import Floats
from mpbench.text_table import render

BLOCKS = "▁▂▃▄▅▆▇█"
ASCII_BLOCKS = "_.-~=*^#"
"""For terminals whose encoding has no blocks."""

SPARKLINE_CELLS = 30
SPARKLINE_SPAN = 0.1
"""Least height of a sparkline, over its lowest value: noise of a per cent shall not look like mountains."""

MIN_RUNS = 2 * MIN_SIZE
"""Below it no step can be found."""

COMMIT_CHARACTERS = 7
TIMES, SPEEDUPS = "median_seconds", "speedup"

PANEL_INCHES = (4.2, 2.4)
PANELS_PER_ROW = 3
PICTURE_FORMATS = ("svg", "png")
VALUE_COLOUR, LEVEL_COLOUR, RULE_COLOUR = "#0072b2", "#d55e00", "#d0d0d0"
"""Of those that reports are drawn in, `report.drawing`."""


@dataclass(frozen=True)
class Series:
    """One figure of one case in one configuration, run by run.

    Attributes:
        case: fullname.
        figure: TIMES, the median of a run's rounds in seconds per step, or SPEEDUPS.
        configuration: what all its runs agree in; for a speedup with the `baseline` that it refers to.
        label: those parts of the configuration in which it differs from other series of the case; empty without others.
        runs: oldest first.
        values: one for each run.
    """

    case: str
    figure: str
    configuration: Mapping[str, Any]
    label: str
    runs: Sequence[SavedRun]
    values: Sequence[float]

    @cached_property
    def steps(self) -> list[Step]:
        """Where the figure has moved for good."""
        return change_points(self.values)


def all_series(runs: Iterable[SavedRun]) -> list[Series]:
    """The series in saved runs: times, then speedups, each in the order in which their cases first appear.

    Runs that have measured cases of another one again are no points of their own: they were made because something
    seemed slow.

    Args:
        runs: oldest first. What was measured once counts once, whatever has copied it: no two measurements are alike.
    """
    seen: set[tuple[str, tuple[float, ...]]] = set()
    points: dict[tuple[str, str], dict[tuple[Any, ...], list[tuple[SavedRun, float]]]] = {}
    for run in runs:
        for name, case in ({} if run.confirms else run.speed).items():
            if (measurement := (name, tuple(case.rounds))) in seen:
                continue
            seen.add(measurement)
            settings = configuration(run.facts, case.record)
            figures = [(TIMES, settings, case.median_seconds)]
            if case.record.speedup is not None:
                figures.append((SPEEDUPS, settings | {"baseline": case.record.baseline}, case.record.speedup))
            for figure, of_figure, value in figures:
                of_name = points.setdefault((figure, name), {})
                of_name.setdefault(tuple(of_figure.items()), []).append((run, value))
    series = []
    for (figure, name), of_case in points.items():
        shared = set.intersection(*map(set, of_case))
        for agreed, measured in of_case.items():
            label = ", ".join(f"{field} {in_words(value)}" for field, value in agreed if (field, value) not in shared)
            its_runs, values = zip(*measured, strict=True)
            series.append(Series(name, figure, dict(agreed), label, its_runs, values))
    return sorted(series, key=lambda s: s.figure != TIMES)


def matching(series: Iterable[Series], pattern: str) -> list[Series]:
    """The series whose case has the pattern in its full name, or fits it as a glob; case does not matter."""
    wanted = pattern.lower()
    return [s for s in series if wanted in s.case.lower() or fnmatchcase(s.case.lower(), wanted)]


def lines(series: Sequence[Series], blocks: str = BLOCKS) -> list[str]:
    """The series as tables, line by line.

    Args:
        series: in the order of the rows.
        blocks: characters of the sparklines, from low to high.
    """
    text: list[str] = []
    for figure, unit in ((TIMES, "ms"), (SPEEDUPS, "x")):
        shown = [s for s in series if s.figure == figure]
        if shown:
            title = "Median ms/step" if figure == TIMES else f"Speedup over {_baselines(shown)}"
            runs = {id(run): run for s in shown for run in s.runs}.values()
            first, last = min(run.time for run in runs), max(run.time for run in runs)
            text += [
                *([""] if text else []),
                f"{title}: {_number(len(runs), 'run')}, {first:%Y-%m-%d} to {last:%Y-%m-%d} (UTC)",
                *render(_rows(shown, unit, blocks), left=("history", "steps")),
            ]
    return text


def as_data(series: Iterable[Series]) -> list[dict[str, Any]]:
    """The series as JSON has it; seconds per step, changes as fractions, times in UTC."""
    return [
        {
            "case": s.case,
            "figure": s.figure,
            "label": s.label,
            "configuration": dict(s.configuration),
            "runs": [{**_identity(run), "value": value} for run, value in zip(s.runs, s.values, strict=True)],
            "steps": [
                {
                    "index": step.index,
                    "from": _identity(s.runs[step.index]),
                    "last_before": _identity(s.runs[step.index - 1]),
                    "before": step.before,
                    "after": step.after,
                    "change": step.change,
                    "gain": step.gain,
                    "runs_ago": _runs_ago(s, step),
                }
                for step in s.steps
            ],
        }
        for s in series
    ]


def sparkline(values: Sequence[float], blocks: str = BLOCKS) -> str:
    """A row of blocks whose heights follow the values; of many values each block is the median of several."""
    cells = np.array([np.median(part) for part in np.array_split(values, min(len(values), SPARKLINE_CELLS))])
    low, high = float(cells.min()), float(cells.max())
    span = max(high - low, SPARKLINE_SPAN * low)
    # Not quite evenly to both sides: a flat series lies within a block then, not between two.
    low -= (span - (high - low)) * (len(blocks) - 1) / (2 * len(blocks))
    heights = (cells - low) / span * len(blocks)
    return "".join(blocks[min(int(height), len(blocks) - 1)] for height in heights)


def picture(series: Sequence[Series], picture_format: str) -> bytes:
    """The series drawn, one panel each: a dot for each run, and its levels as lines. The same bytes every time.

    Args:
        series: at least one.
        picture_format: one of PICTURE_FORMATS.
    """
    import matplotlib  # here: what draws nothing need not wait for it
    from matplotlib.figure import Figure

    columns = min(len(series), PANELS_PER_ROW)
    rows = -(-len(series) // columns)
    file = io.BytesIO()
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update({"svg.hashsalt": "mpbench", "timezone": "UTC", "font.size": 8})
        figure = Figure(figsize=(PANEL_INCHES[0] * columns, PANEL_INCHES[1] * rows), layout="constrained")
        panels = figure.subplots(rows, columns, squeeze=False).ravel()
        for s, panel in zip(series, panels, strict=False):
            draw(s, panel)
        for panel in panels[len(series) :]:
            panel.remove()
        unstamped = {"Date": None} if picture_format == "svg" else {"Software": None}
        figure.savefig(file, format=picture_format, metadata=unstamped, dpi=120)
    return file.getvalue()


def draw(series: Series, panel: Any) -> None:
    """One series on matplotlib's axes: a dot for each run, its levels as lines, a rule where a step begins."""
    from matplotlib import dates as untyped_dates

    dates: Any = untyped_dates

    values = _in_unit(series)
    times = [run.time for run in series.runs]
    panel.plot(times, values, ".", markersize=4, color=VALUE_COLOUR)
    scale = values[0] / series.values[0]
    ends = [0, *(step.index for step in series.steps), len(times)]
    levels = [step.after for step in series.steps]
    if series.steps:
        levels = [series.steps[0].before, *levels]
    for level, first, end in zip(levels, ends, ends[1:], strict=False):
        panel.plot([times[first], times[end - 1]], [scale * level] * 2, color=LEVEL_COLOUR, linewidth=1.2)
    for step in series.steps:
        panel.axvline(times[step.index], color=RULE_COLOUR, linewidth=0.8, linestyle=":", zorder=0)
    title = "\n".join(filter(None, [_short(series.case), series.label]))
    panel.set_title(title, fontsize=8, parse_math=False)
    panel.set_ylabel("ms" if series.figure == TIMES else f"speedup over {_baselines([series])}", parse_math=False)
    low, high = min(values), max(values)
    panel.set_ylim(low - max(0.15 * (high - low), 0.05 * low), high + max(0.15 * (high - low), 0.05 * high))
    locator = dates.AutoDateLocator(minticks=3, maxticks=7)  # with fewer it finds no interval for some lengths
    panel.xaxis.set_major_locator(locator)
    panel.xaxis.set_major_formatter(dates.ConciseDateFormatter(locator))


def _rows(series: Sequence[Series], unit: str, blocks: str) -> list[dict[str, str]]:
    names = {s.case: _short(s.case) for s in series}
    alike, labelled = Counter(names.values()), any(s.label for s in series)
    rows = []
    for s in series:
        values = _in_unit(s)
        places = 2 if s.figure == TIMES else 3
        short, enough = names[s.case], len(values) >= MIN_RUNS
        row = {"case": short if alike[short] == 1 else s.case}
        if labelled:
            row["measured with"] = s.label
        rows.append(
            row
            | {
                "runs": f"{len(values):4}",
                f"first {unit}": f"{values[0]:.{places}f}",
                f"last {unit}": f"{values[-1]:.{places}f}",
                "change %": f"{100 * (values[-1] / values[0] - 1):+.1f}",
                "history": sparkline(values.tolist(), blocks),
                "steps": "; ".join(described(s, step) for step in s.steps) if enough else f"need {MIN_RUNS} runs",
            }
        )
    return rows


def _baselines(series: Iterable[Series]) -> str:
    return "/".join(dict.fromkeys(str(s.configuration["baseline"]) for s in series))


def described(series: Series, step: Step) -> str:
    """A step in words: by how much, from which commit, how long ago."""
    run, ago = series.runs[step.index], _runs_ago(series, step)
    return f"{100 * step.change:+.1f} % from {_commit(run)} ({run.time:%Y-%m-%d}), {_number(ago, 'run')} ago"


def _runs_ago(series: Series, step: Step) -> int:
    """How many runs were made since the first one at the new level."""
    return len(series.values) - 1 - step.index


def _commit(run: SavedRun) -> str:
    commit = run.commit[:COMMIT_CHARACTERS] or "an unknown commit"
    return f"{commit} with changes" if run.dirty else commit


def _identity(run: SavedRun) -> dict[str, Any]:
    return {
        "time": run.time.isoformat(),
        "commit": run.commit,
        "dirty": run.dirty,
        "branch": run.branch,
        "file": str(run.path),
    }


def _in_unit(series: Series) -> Floats:
    """Its values as they are shown: times in milliseconds."""
    return np.asarray(series.values, dtype=float) * (1000 if series.figure == TIMES else 1)


def _short(fullname: str) -> str:
    """A case's name without its file."""
    return fullname.rsplit("::", 1)[-1]


def _number(n: int, of: str) -> str:
    return f"{n} {of}" if n == 1 else f"{n} {of}s"

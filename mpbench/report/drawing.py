"""How every figure of a report is drawn: sizes, colours, markers, text; rows under headings, panels above each other.

No state: figures are `matplotlib.figure.Figure` objects made under `style`, and saved under it too.
"""

from __future__ import annotations

import functools
import itertools
import re
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import matplotlib
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont, get_font
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from mpbench.config.precisions import PRECISIONS
from mpbench.errors import printable
from mpbench.records.speed import SpeedCase
from mpbench.report.content import Drawing
from mpbench.report.labels import arm_label, by_phase, group_label

WIDTH_INCHES = 4.7
"""Every figure is as wide as a phone's page with readable text, or as a column of a paper."""

FONT_POINTS = 9.0
SMALL_POINTS = 8.0
FONT = "DejaVu Sans"
"""Comes with matplotlib and is wide: a font that a browser takes instead needs no more room."""

INK, PAPER, FAINT = "#000000", "#ffffff", "#d0d0d0"
"""The first two are matplotlib's own."""

SERIES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
"""Okabe and Ito's colours, which people of every colour vision tell apart."""

MARKERS = ("o", "s", "^", "D", "v", "P")
"""Shapes tell series apart where colours do not."""

ROW_INCHES = 0.2
HEADING_ROWS = 1.1
KEY_INCHES = 0.5
"""Room for a key's mark and for the gap to the next column."""

KEY_ROW_INCHES = 0.18
LABEL_INCHES = 1.7
"""The widest label in a margin."""

LARGE_POINTS = 200.0
"""Text is measured at this size: at a figure's own size each character is rounded to whole pixels."""

MEASURED_CHARACTERS = 200
"""Longer text from outside is cut before its width is measured."""

NAME_CHARACTERS = 60
"""The longest name of a drawing, before a number that makes it unique."""


MOST_ROWS = 200
"""In a figure; the tables have the others."""

MOST_PANELS = 30
"""In a figure: a model has five precisions, in two modes or at some points of a sweep."""

MOST_DRAWINGS = 100
"""Of one kind; all models of keras.applications in both phases take 76."""

Drawn = TypeVar("Drawn")


@contextmanager
def style(salt: str = "mpbench") -> Iterator[None]:
    """Settings of matplotlib for one figure, whatever the user's are; text is text, never a formula.

    Args:
        salt: of the ids in an SVG file.
    """
    with matplotlib.rc_context(), warnings.catch_warnings():
        # A name may hold what the font lacks: a browser has other fonts, a picture shows a box.
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(
            {
                "axes.labelsize": SMALL_POINTS,
                "axes.linewidth": 0.6,
                "axes.spines.right": False,
                "axes.spines.top": False,
                "axes.titlelocation": "left",
                "axes.titlesize": FONT_POINTS,
                "axes.titley": 1.0,  # given, since looking for a free place takes longer than drawing
                "font.size": FONT_POINTS,
                "grid.color": FAINT,
                "grid.linewidth": 0.5,
                "legend.fontsize": SMALL_POINTS,
                "legend.frameon": False,
                "svg.fonttype": "none",
                "svg.hashsalt": salt,
                "text.parse_math": False,
                "timezone": "UTC",
                "xtick.labelsize": SMALL_POINTS,
                "ytick.labelsize": SMALL_POINTS,
            }
        )
        yield


def fitted(text: str, width: float = LABEL_INCHES, points: float = SMALL_POINTS) -> str:
    """Text from outside in one printable line of so many inches, its middle left out where it is too long.

    The ends stay, since that is where names of one family differ.
    """
    line = printable(text)
    kept = min(len(line), MEASURED_CHARACTERS)
    short = line if kept == len(line) else _without_middle(line, kept)
    while kept > 2 and inches([short], points) > width:
        kept -= 1
        short = _without_middle(line, kept)
    return short


def _without_middle(line: str, kept: int) -> str:
    return f"{line[: kept - kept // 2]}\N{HORIZONTAL ELLIPSIS}{line[len(line) - kept // 2 :]}"


def inches(lines: Iterable[str], points: float = SMALL_POINTS) -> float:
    """Room for the longest of some lines."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        return points / 72 * max((_ems(line) for line in lines), default=0.0)


@functools.cache
def _ems(line: str) -> float:
    font = get_font(findfont(FONT))
    font.set_size(LARGE_POINTS, 72)
    font.set_text(line)
    return float(font.get_width_height()[0]) / 64 / LARGE_POINTS


def look(precision: str) -> tuple[str, str]:
    """Colour and marker of a precision, the same in every drawing; those that the suite does not know share one."""
    number = list(PRECISIONS).index(precision) if precision in PRECISIONS else len(PRECISIONS)
    return SERIES[number], MARKERS[number]


def named(drawings: Iterable[Drawing]) -> list[Drawing]:
    """The same drawings, MOST_DRAWINGS at most, their names made fit for files and anchors, and unique among them."""
    found: dict[str, Drawing] = {}
    for drawing in itertools.islice(drawings, MOST_DRAWINGS):
        slug = re.sub(r"[^a-z0-9]+", "-", drawing.name.lower()).strip("-")[:NAME_CHARACTERS].strip("-") or "figure"
        wanted = itertools.chain([slug], (f"{slug}-{number}" for number in itertools.count(2)))
        name = next(name for name in wanted if name not in found)
        found[name] = replace(drawing, name=name)
    return list(found.values())


def drawn_rows(rows: Sequence[Drawn], most: int = MOST_ROWS) -> tuple[Sequence[Drawn], str]:
    """The rows, or panels, that a figure shows, and the words in its title if these are not all."""
    return rows[:most], f" (the first {most} of {len(rows)})" if len(rows) > most else ""


def stacked(
    heights: Sequence[float],
    *,
    left: float,
    right: float = 0.15,
    between: float = 0.45,
    top: float = 0.3,
    bottom: float = 0.5,
) -> tuple[Figure, list[Any]]:
    """A figure of panels above each other; all in inches.

    Args:
        heights: of the panels, from the top.
        left, right: margins that hold labels.
        between: from one panel to the next.
        top, bottom: margins.
    """
    height = top + sum(heights) + between * (len(heights) - 1) + bottom
    figure = Figure(figsize=(WIDTH_INCHES, height))
    panels, y = [], height - top
    for of in heights:
        y -= of
        width = max(WIDTH_INCHES - left - right, 1.0)
        panels.append(figure.add_axes((left / WIDTH_INCHES, y / height, width / WIDTH_INCHES, of / height)))
        y -= between
    return figure, panels


def add_keys(figure: Figure, keys: Sequence[Line2D | Patch]) -> None:
    """Explain the marks below the panels, in as many columns as fit; the figure grows by that."""
    if not keys:
        return
    widest = inches(str(key.get_label()) for key in keys) + KEY_INCHES
    columns = max(1, min(len(keys), int((WIDTH_INCHES - 0.1) / widest)))
    height = figure.get_figheight()
    room = 0.05 + KEY_ROW_INCHES * -(-len(keys) // columns)
    figure.set_figheight(height + room)
    for panel in figure.axes:
        place = panel.get_position()
        bottom, top = (room + height * end for end in (place.y0, place.y1))
        panel.set_position((place.x0, bottom / (height + room), place.width, (top - bottom) / (height + room)))
    figure.legend(handles=list(keys), loc="lower left", ncols=columns, borderaxespad=0.2, columnspacing=1.2)


@dataclass(frozen=True)
class Row:
    """One row of a panel.

    Attributes:
        heading: the line above it; neighbours of one heading share it.
        label: in the left margin; may be several lines.
        aside: in the right margin, such as the figures; may be several lines.
        least_height: in lines.
    """

    heading: str
    label: str
    aside: str = ""
    least_height: float = 1.0

    @property
    def height(self) -> float:
        """In lines."""
        return max(self.least_height, 0.4 + 0.6 * (max(self.label.count("\n"), self.aside.count("\n")) + 1))


def rows_under_headings(
    titles: Sequence[str],
    rows: Sequence[Sequence[Row]],
    keys: Sequence[Line2D | Patch] = (),
    x_label: str = "",
) -> tuple[Figure, list[Any], list[list[float]]]:
    """A figure of panels, each with its rows from top to bottom.

    Args:
        titles: of the panels.
        rows: of each panel, at least one.
        keys: what its marks mean, shown below.
        x_label: of the lowest panel.

    Returns:
        The figure, its panels, and in each the y of its rows; a row's height is 1 where its label has one line.
    """
    every = [row for of in rows for row in of]
    left = 0.15 + inches(line for row in every for line in row.label.split("\n"))
    right = 0.2 + inches(line for row in every for line in row.aside.split("\n"))
    heights, places = [], []
    for of in rows:
        y, heading, of_panel = 0.1, None, []
        for row in of:
            if row.heading != heading:
                y, heading = y + HEADING_ROWS, row.heading
            of_panel.append(y + row.height / 2)
            y += row.height
        heights.append(y + 0.1)
        places.append(of_panel)
    figure, panels = stacked(
        [ROW_INCHES * height for height in heights],
        left=left,
        right=right,
        bottom=0.5,
        between=0.55,
    )
    for panel, title, of, ys, height in zip(panels, titles, rows, places, heights, strict=True):
        _label_rows(panel, of, ys, left)
        panel.set_ylim(height, 0)
        width = WIDTH_INCHES - left - right
        panel.text(
            (0.05 - left) / width, 1 + 0.08 / (ROW_INCHES * height), title, transform=panel.transAxes, fontweight="bold"
        )
        panel.grid(axis="x")
        panel.set_axisbelow(True)
        panel.spines["left"].set_visible(False)
        panel.tick_params(axis="y", length=0)
    panels[-1].set_xlabel(x_label)
    add_keys(figure, keys)
    return figure, panels, places


def rows_of_cases(
    cases: Sequence[SpeedCase], asides: Sequence[str], keys: Sequence[Line2D], x_label: str
) -> tuple[Figure, list[tuple[SpeedCase, Any, float]]]:
    """A figure with a panel per phase and a row per case.

    Args:
        cases: at least one.
        asides: of each case, in the right margin.
        keys, x_label: as in `rows_under_headings`.

    Returns:
        The figure, and the cases in the order of reading, each with its panel and the y of its row.
    """
    phases, aside = by_phase(cases), {id(case): text for case, text in zip(cases, asides, strict=True)}
    rows = [
        [Row(group_label(case.record), fitted(arm_label(case.record)), aside[id(case)]) for case in in_phase]
        for in_phase in phases.values()
    ]
    figure, panels, places = rows_under_headings([phase.capitalize() for phase in phases], rows, keys, x_label)
    found = []
    for in_phase, panel, ys in zip(phases.values(), panels, places, strict=True):
        found += [(case, panel, y) for case, y in zip(in_phase, ys, strict=True)]
    return figure, found


def _label_rows(panel: Any, rows: Sequence[Row], ys: Sequence[float], left: float) -> None:
    width = panel.get_position().width * WIDTH_INCHES
    beyond = panel.get_yaxis_transform()
    panel.set_yticks(ys, [row.label for row in rows])
    heading = None
    for row, y in zip(rows, ys, strict=True):
        if row.heading != heading:
            heading = row.heading
            top = y - row.height / 2 - HEADING_ROWS / 2
            text = fitted(heading, WIDTH_INCHES - 0.1, FONT_POINTS)
            over_grid = {"facecolor": PAPER, "edgecolor": "none", "pad": 0.5}
            panel.text((0.05 - left) / width, top, text, transform=beyond, va="center", bbox=over_grid)
        panel.text(1 + 0.08 / width, y, row.aside, transform=beyond, va="center", fontsize=SMALL_POINTS)

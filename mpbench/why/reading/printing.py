"""How figures become text: the digits that their doubt leaves, rounding that adds up, tables and lines. Pure."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Iterable, Mapping, Sequence

from mpbench.errors import printable
from mpbench.text_table import render
from mpbench.why.reading.account import adding_up
from mpbench.why.reading.explanation import CLEAR_SAVING
from mpbench.why.reading.findings import AnyFigure

MS = 1000.0
MAX_DECIMALS = 4
WIDTH = 118
"""Of a line of prose, in characters."""


def decimals(figures: Iterable[AnyFigure]) -> int:
    """Of milliseconds: the last one is the first that the most doubtful of the figures leaves in doubt."""
    return decimals_for(max((figure.doubt_seconds for figure in figures), default=0.0))


def decimals_for(doubt: float) -> int:
    return MAX_DECIMALS if doubt <= 0 else min(MAX_DECIMALS, max(0, -math.floor(math.log10(MS * doubt))))


def milliseconds(rows: Mapping[str, float], digits: int) -> tuple[dict[str, str], str]:
    """Milliseconds of rows that add up as printed, and their sum."""
    whole = adding_up(rows, 10.0**-digits / MS)
    printed = {key: f"{n / 10**digits:.{digits}f}" for key, n in whole.items()}
    return printed, f"{sum(whole.values()) / 10**digits:.{digits}f}"


def percent_of(rows: Mapping[str, float]) -> dict[str, str]:
    """Shares of the rows' sum in whole per cent that add up to 100."""
    total = math.fsum(rows.values())
    return {key: str(n) for key, n in adding_up(rows, total / 100).items()}


def shares_of_saving(saved: Mapping[str, float], before: float, clear: bool = True) -> dict[str, str]:
    """Shares of what was saved, where it is enough to be shared out."""
    total = math.fsum(saved.values())
    return percent_of(saved) if clear and abs(total) >= CLEAR_SAVING * before else dict.fromkeys(saved, "")


def prose(lines: Iterable[str]) -> list[str]:
    """Sentences in lines that are not too wide."""
    return [
        part
        for line in lines
        for part in textwrap.wrap(printable(line), WIDTH, subsequent_indent="  ", break_long_words=False)
    ]


def with_share(milliseconds: str, percent: str) -> str:
    return f"{milliseconds} ({percent:>3} %)"


def table_lines(rows: Sequence[dict[str, str]], left: Sequence[str] = ()) -> list[str]:
    """As tables.render, but with the second column to the right too, unless it is in `left`."""
    second = list(rows[0])[1]
    if second not in left:
        width = max(len(second), *(len(row.get(second, "")) for row in rows))
        rows = [{key: cell.rjust(width) if key == second else cell for key, cell in row.items()} for row in rows]
    return render(rows, left)


def shortened(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: width - 3]}..."

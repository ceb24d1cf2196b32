"""What a report is made of, whatever it is written as: sections of sentences, notes, tables, drawings and photographs.

Types only. All text in them is plain: whoever writes it into a page, a table or a formula escapes it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from mpbench.text_table import render


@dataclass(frozen=True)
class Number:
    """A cell that is sorted by its value, in the unit that the column's title names."""

    text: str
    value: float


Cell = str | Number


def number(value: float, form: str = "") -> Number:
    """A cell of a number, written as a format specification says."""
    return Number(f"{value:{form}}", float(value))


def cell_text(cell: Cell) -> str:
    return cell.text if isinstance(cell, Number) else cell


@dataclass(frozen=True)
class Table:
    """Rows under columns.

    Attributes:
        title: what it holds and how it was measured.
        columns: each with its unit.
        rows: as many cells each as there are columns.
        sortable: whether a reader will want to sort and copy it.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    sortable: bool = False

    @classmethod
    def of(cls, title: str, rows: Iterable[Mapping[str, Cell]], sortable: bool = False) -> Table:
        """Make a table from rows of cells by column; a row may lack some."""
        rows = list(rows)
        columns = tuple(dict.fromkeys(name for row in rows for name in row))
        return cls(title, columns, tuple(tuple(row.get(name, "") for name in columns) for row in rows), sortable)

    @property
    def numeric(self) -> list[bool]:
        """For each column, whether it holds numbers only."""
        columns = [[row[i] for row in self.rows if row[i] != ""] for i in range(len(self.columns))]
        return [bool(cells) and all(isinstance(cell, Number) for cell in cells) for cells in columns]

    def lines(self) -> list[str]:
        """The table as text for a terminal, its title first."""
        rows = [dict(zip(self.columns, map(cell_text, row), strict=True)) for row in self.rows]
        return [self.title, *render(rows)]


@dataclass(frozen=True)
class Drawing:
    """A figure.

    Attributes:
        name: unique in its report; its file is called so.
        title: what is seen.
        alternative: what it says, in words, for whoever cannot see it.
        figure: a matplotlib Figure.
    """

    name: str
    title: str
    alternative: str
    figure: Any


@dataclass(frozen=True)
class Photograph:
    """An image of the data set.

    Attributes:
        jpeg: its bytes.
        caption: what is seen and who was right.
    """

    jpeg: bytes
    caption: str


@dataclass(frozen=True)
class Sentence:
    """A paragraph."""

    text: str


@dataclass(frozen=True)
class Note:
    """What must be known before a figure is believed.

    Attributes:
        word: the label that stands beside the figures too, such as `NOISY`, `THROTTLED` or `CPU`.
        text: what it means here.
    """

    word: str
    text: str


@dataclass(frozen=True)
class Command:
    """What to type, to be copied."""

    text: str


Block = Sentence | Note | Table | Drawing | Photograph | Command


@dataclass(frozen=True)
class Section:
    """One part of the report.

    Attributes:
        name: unique in its report; its anchor.
        title: for people.
        blocks: in the order of reading. If it was not measured: one sentence and the command that measures it.
    """

    name: str
    title: str
    blocks: Sequence[Block] = field(default_factory=tuple)


@dataclass(frozen=True)
class Report:
    """A whole report.

    Attributes:
        title: with the device and the day.
        answers: sentences that answer whether mixed precision pays here, the first for whoever reads only one.
        notes: what holds for all of it, such as that a CPU was measured.
        sections: in the order of reading.
    """

    title: str
    answers: Sequence[str]
    notes: Sequence[Note]
    sections: Sequence[Section]


class Failure(NamedTuple):
    """A test that failed: its node id, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class SessionStatus:
    """What has become of a session.

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

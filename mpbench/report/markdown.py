"""A report as Markdown for a pull request: what the page says, without its pictures.

All text of a report is plain, and may come from outside: words that a renderer could take for more than text stand in
code spans, as in `summary.py`, whose tables these are.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from mpbench.report.content import Block, Cell, Command, Drawing, Note, Number, Photograph, Report, Sentence, Table
from mpbench.report.summary import MAX_TEXT, code, fitting, grid

PLAIN = re.compile(r"[\w.,:;%+()\[\]=?!'\"/°±\u00d7→…\u2013-]+|[<>]=?|->|&", re.ASCII)
"""A word that is shown as it stands once ESCAPED is; any other, such as `@name` or `<b>`, becomes code."""

LINKED = re.compile(r"www\.|://|:\w+:|\b[0-9a-f]{7,}\b", re.IGNORECASE | re.ASCII)
"""What GitHub makes links or pictures of."""

ESCAPED = re.compile(r"[\[\]<>&_]")
BEGINNING = re.compile(r"(\d*)([.)]|[-+=]+)")
"""A word that makes a list or a heading of the line that it begins."""


def markdown(report: Report) -> str:
    """The report, a heading per section; drawings as their title and what they say in words, photographs as captions.

    Returns:
        GitHub's Markdown, no longer than GitHub takes.
    """
    parts = [f"## {plain(report.title)}", *map(_strong, report.answers[:1]), *map(plain, report.answers[1:])]
    parts += [_block(note) for note in report.notes]
    for section in report.sections:
        parts += [f"### {plain(section.title)}", *map(_block, section.blocks)]
    return fitting("\n\n".join(part for part in parts if part) + "\n")


def plain(text: str) -> str:
    """Plain text as Markdown that shows it, in one line: nothing in it is Markdown, HTML, a link or a mention."""
    # Not `printable`: code() drops what cannot be printed, and two ways to show one name would look like two names.
    words = "".join(c if c.isprintable() else " " for c in text).split()
    if not words:
        return ""
    shown = [_word(word) for word in words]
    if match := BEGINNING.fullmatch(words[0]):
        shown[0] = f"{match[1]}\\{match[2]}"
    return " ".join(shown)


def _strong(text: str) -> str:
    return f"**{plain(text) or code('')}**"


def _word(word: str) -> str:
    if len(word) > MAX_TEXT or not PLAIN.fullmatch(word) or LINKED.search(word):
        return code(word)
    return ESCAPED.sub(r"\\\g<0>", word)


def _block(block: Block) -> str:
    if isinstance(block, Sentence):
        return plain(block.text)
    if isinstance(block, Note):
        return f"> {_strong(block.word)}: {plain(block.text)}"
    if isinstance(block, Command):
        return _command(block.text)
    if isinstance(block, Table):
        return _table(block)
    if isinstance(block, Drawing):
        return f"{_strong(f'Figure: {block.title}.')} {plain(block.alternative)}"
    assert isinstance(block, Photograph)
    return f"- {plain(block.caption)}"


def _command(text: str) -> str:
    lines = ["".join(c if c.isprintable() else " " for c in line) for line in text.splitlines()]
    fence = "`" * max(3, *(len(run) + 1 for run in re.findall("`+", text)), 3)
    return "\n".join([f"{fence}sh", *lines, fence])


def _table(table: Table) -> str:
    title = _strong(table.title)
    if not table.columns:
        return title
    numbers = [
        bool(table.rows) and all(isinstance(row[i], Number) or not row[i] for row in table.rows)
        for i in range(len(table.columns))
    ]
    rows = (_cells(row) for row in table.rows)
    return f"{title}\n\n{grid(_cells(table.columns), rows, numbers)}"


def _cells(cells: Iterable[Cell]) -> list[str]:
    return [plain(cell.text if isinstance(cell, Number) else cell) for cell in cells]

"""A report as Markdown, without its pictures: for a pull request, or a CI job's page.

All text of a report is plain, and may come from outside: a word that a renderer could take for more than text stands in
a code span, where it is text: no HTML, link, mention or further cell.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from mpbench.report.content import (
    Block,
    Cell,
    Command,
    Drawing,
    Note,
    Photograph,
    Report,
    Sentence,
    Table,
    cell_text,
)

MAX_MARKDOWN_BYTES = 1_000_000
"""GitHub refuses the summary of a step from 1 MiB on."""

MAX_WORD_CHARACTERS = 300
"""No honest word is longer, and no other may push the tables out of the page."""

PLAIN = re.compile(r"[\w.,:;%+()\[\]=?!'\"/°±\u00d7→…\u2013-]+|[<>]=?|->|&", re.ASCII)
"""A word that is shown as it stands once ESCAPED is; any other, such as `@name` or `<b>`, becomes code."""

LINKED = re.compile(r"www\.|://|:\w+:|\b[0-9a-f]{7,}\b", re.IGNORECASE | re.ASCII)
"""What GitHub makes links or pictures of."""

ESCAPED = re.compile(r"[\[\]<>&_]")
BEGINNING = re.compile(r"(\d*)([.)]|[-+=]+)")
"""A word that makes a list or a heading of the line that it begins."""

CUT_HERE = "\n\nCut here: a longer text would not be shown.\n"


def markdown(report: Report) -> str:
    """The report, a heading per section; drawings as their title and what they say in words, photographs as captions.

    Returns:
        GitHub's Markdown, no longer than GitHub takes.
    """
    parts = [f"## {plain(report.title)}", *map(_strong, report.answers[:1]), *map(plain, report.answers[1:])]
    parts += map(_block, report.notes)
    for section in report.sections:
        parts += [f"### {plain(section.title)}", *map(_block, section.blocks)]
    return _fitting("\n\n".join(part for part in parts if part) + "\n")


def plain(text: str) -> str:
    """Plain text as Markdown that shows it, in one line: nothing in it is Markdown, HTML, a link or a mention."""
    # Not `printable`: _code drops what cannot be printed, and two ways to show one name would look like two names.
    words = "".join(c if c.isprintable() else " " for c in text).split()
    if not words:
        return ""
    shown = [_word(word) for word in words]
    if match := BEGINNING.fullmatch(words[0]):
        shown[0] = f"{match[1]}\\{match[2]}"
    return " ".join(shown)


def _strong(text: str) -> str:
    return f"**{shown}**" if (shown := plain(text)) else ""


def _word(word: str) -> str:
    if len(word) > MAX_WORD_CHARACTERS or not PLAIN.fullmatch(word) or LINKED.search(word):
        return _code(word)
    return ESCAPED.sub(r"\\\g<0>", word)


def _code(word: str) -> str:
    word = word if len(word) <= MAX_WORD_CHARACTERS else f"{word[:MAX_WORD_CHARACTERS]}..."
    fence = "`" * (max((len(run) for run in re.findall("`+", word)), default=0) + 1)
    space = " " if word[0] == "`" or word[-1] == "`" else ""
    return f"{fence}{space}{word}{space}{fence}"


def _block(block: Block) -> str:
    match block:
        case Sentence(text):
            return plain(text)
        case Note(word, text):
            return f"> {_strong(word)}: {plain(text)}"
        case Command(text):
            return _command(text)
        case Table():
            return _table(block)
        case Drawing(title=title, alternative=alternative):
            return f"{_strong(f'Figure: {title}.')} {plain(alternative)}"
        case Photograph(caption=caption):
            return f"- {plain(caption)}"


def _command(text: str) -> str:
    lines = ["".join(c if c.isprintable() else " " for c in line) for line in text.splitlines()]
    fence = "`" * max(3, *(len(run) + 1 for run in re.findall("`+", text)), 3)
    return "\n".join([f"{fence}sh", *lines, fence])


def _table(table: Table) -> str:
    if not table.columns:
        return _strong(table.title)
    rule = ["---:" if right else "---" for right in table.numeric]
    lines = [_cells(table.columns), rule, *map(_cells, table.rows)]
    rows = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return "\n\n".join(filter(None, [_strong(table.title), rows]))


def _cells(cells: Sequence[Cell]) -> list[str]:
    return [plain(cell_text(cell)).replace("|", "\\|") for cell in cells]


def _fitting(text: str) -> str:
    """The text, cut after a line where it would be refused: a table that lacks its last rows is still one."""
    data = text.encode("utf-8", "replace")
    if len(data) <= MAX_MARKDOWN_BYTES:
        return data.decode()
    return data[: MAX_MARKDOWN_BYTES - len(CUT_HERE)].decode("utf-8", "ignore").rpartition("\n")[0] + CUT_HERE

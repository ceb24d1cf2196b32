r"""Tables as LaTeX, for a paper: booktabs, all text escaped.

A fragment to \input; its preamble needs PREAMBLE, with pdfLaTeX, XeLaTeX or LuaLaTeX.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from mpbench.errors import printable
from mpbench.report.content import Cell, Number, Table

PREAMBLE = (r"\usepackage[T1]{fontenc}", r"\usepackage{booktabs}", r"\usepackage{graphicx}")

SPECIAL = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "'": r"\textquotesingle{}",
    "`": r"\textasciigrave{}",
    "-": r"{-}",  # else two become a dash
    "[": r"{[}",  # else the argument of a row's end
    "]": r"{]}",
}
UNKNOWN = "?"
"""For what pdfLaTeX's fonts lack: an error there would end the whole document."""

GROUPED = re.compile(r"(thesis): (.+)")


def latex(tables: Sequence[Table]) -> str:
    """Each table as a float of its own, no wider than the text; columns of numbers stand to the right.

    Args:
        tables: such as `thesis_tables`'; those without rows are left out.
    """
    packages = "\n".join(f"% {line}" for line in PREAMBLE)
    parts = [f"% In the preamble:\n{packages}\n", *(_table(table) for table in tables if table.rows)]
    return "\n".join(parts)


def escaped(text: str) -> str:
    """Any text as LaTeX that shows it, in one line."""
    line = " ".join(printable(text).split())
    return "".join(SPECIAL.get(c) or (c if c.isascii() else UNKNOWN) for c in line)


def _table(table: Table) -> str:
    right = [all(_is_number(row[i]) for row in table.rows) for i in range(len(table.columns))]
    lines = [
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{escaped(table.title)}}}",
        r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",
        rf"\begin{{tabular}}{{{''.join('r' if of else 'l' for of in right)}}}",
        r"\toprule",
        *_head(table.columns),
        r"\midrule",
        *(_row(_text(cell) for cell in row) for row in table.rows),
        r"\bottomrule",
        r"\end{tabular}}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def _head(columns: Sequence[str]) -> list[str]:
    """The columns' names, those of the thesis under one heading."""
    grouped = [GROUPED.fullmatch(name) for name in columns]
    names = [match[2] if match else name for name, match in zip(columns, grouped, strict=True)]
    first = next((i for i, match in enumerate(grouped) if match), None)
    if first is None or not all(grouped[first:]):
        return [_row(columns)]
    span = len(columns) - first
    above = " & " * first + rf"\multicolumn{{{span}}}{{c}}{{thesis}} \\"
    return [above, rf"\cmidrule(l){{{first + 1}-{len(columns)}}}", _row(names)]


def _row(cells: Iterable[str]) -> str:
    return rf"{' & '.join(escaped(cell) for cell in cells)} \\"


def _is_number(cell: Cell) -> bool:
    return isinstance(cell, Number) or not cell


def _text(cell: Cell) -> str:
    return cell.text if isinstance(cell, Number) else cell

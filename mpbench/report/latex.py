r"""Tables as LaTeX, for a paper: booktabs, all text escaped.

A fragment to \input; its preamble needs PREAMBLE, with pdfLaTeX, XeLaTeX or LuaLaTeX.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from mpbench.errors import printable
from mpbench.report.content import Table, cell_text

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
"""Stands for characters that pdfLaTeX's fonts lack: an error would end the whole document."""


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
    lines = [
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{escaped(table.title)}}}",
        r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",
        rf"\begin{{tabular}}{{{''.join('r' if right else 'l' for right in table.numeric)}}}",
        r"\toprule",
        _row(table.columns),
        r"\midrule",
        *(_row(map(cell_text, row)) for row in table.rows),
        r"\bottomrule",
        r"\end{tabular}}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def _row(cells: Iterable[str]) -> str:
    return rf"{' & '.join(escaped(cell) for cell in cells)} \\"

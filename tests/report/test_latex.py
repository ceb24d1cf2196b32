"""Tables as LaTeX: always their structure, and a real compiler's word where there is one."""

import re
import shutil
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mpbench.report.content import Number, Table
from mpbench.report.latex import PREAMBLE, SPECIAL, escaped, latex

HOSTILE = [
    "\\input{/etc/passwd}",
    "\\write18{id}",
    "}\\end{table}",
    "$x_1^2$ & 50 % # ~",
    "a\\\\[9cm]",
    "^^5cinput",
    "% comment",
    "``quoted'' -- \"x\"",
    "line\nbreak\x00\u202e",
    "naïve 模型",
    "",
]
TABLE = Table(
    "Table 4, training: 100 % of _all_",
    ("model", "baseline, ms", "speedup", "thesis: float32, ms", "thesis: less, %"),
    tuple((name, Number("303.00", 303.0), "1.5 [1.4, 1.6]", Number("303", 303.0), "") for name in HOSTILE),
)
PLAIN_CHARACTER = re.compile(r"[A-Za-z0-9 .,:;+()=?!/*@]")
COMMAND = re.compile(r"\\text[a-z]+\{\}|\\[{}$&#%_]|\{[-\[\]]\}")


def test_a_table_in_booktabs():
    text = latex([TABLE, Table("empty", ("a",), ())])
    assert text.count(r"\begin{table}") == text.count(r"\end{table}") == 1
    body = text[text.index(r"\begin{tabular}") : text.index(r"\end{tabular}")].splitlines()
    assert body[0] == r"\begin{tabular}{lrlrl}"
    assert body[2] == r"model & baseline, ms & speedup & thesis: float32, ms & thesis: less, \% \\"
    assert [body[i] for i in (1, 3, -1)] == [r"\toprule", r"\midrule", r"\bottomrule"]
    rows = body[4:-1]
    assert len(rows) == len(HOSTILE)
    assert all(row.endswith(r"303.00 & 1.5 {[}1.4, 1.6{]} & 303 &  \\") for row in rows)
    assert rows[0].startswith(r"\textbackslash{}input\{/etc/passwd\} & ")
    assert r"\caption{Table 4, training: 100 \% of \_all\_}" in text


@given(st.text(max_size=50))
def test_any_text_is_characters_and_their_commands_alone(text):
    rest = COMMAND.sub("", escaped(text))
    assert all(PLAIN_CHARACTER.fullmatch(c) for c in rest)


def test_each_special_character_has_a_way_to_be_shown():
    printed = {chr(n) for n in range(32, 127)}
    assert printed - set(SPECIAL) == {c for c in printed if PLAIN_CHARACTER.fullmatch(c)}


@pytest.mark.skipif(not shutil.which("pdflatex"), reason="no pdflatex: what compiles it is not here")
def test_a_compiler_takes_it(tmp_path):
    document = [r"\documentclass{article}", *PREAMBLE, r"\begin{document}", r"\input{tables}", r"\end{document}"]
    (tmp_path / "tables.tex").write_text(latex([TABLE]))
    (tmp_path / "paper.tex").write_text("\n".join(document))
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "-no-shell-escape", "paper.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, errors="replace")
    assert done.returncode == 0, done.stdout[-2000:]
    assert "Overfull" not in done.stdout
    assert (tmp_path / "paper.pdf").read_bytes().startswith(b"%PDF")

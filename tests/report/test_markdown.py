"""A report as Markdown, read by a real Markdown parser as a pull request would."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_text import HOSTILE, PARSER, cells, headings, inline_types, visible

from mpbench.report.content import Command, Drawing, Note, Number, Photograph, Report, Section, Sentence, Table
from mpbench.report.markdown import MAX_MARKDOWN_BYTES, MAX_WORD_CHARACTERS, markdown, plain

MORE_HOSTILE = [
    *HOSTILE,
    "1. first",
    "- item",
    "=====",
    "---",
    "# heading",
    "> quote",
    "    indented",
    "user@example.invalid",
    ":smile: a_b_ __c__ *d*",
    "[a]: https://example.invalid",
    "[x](y) [ ] task",
    "deadbeef0123456",
    "<img src=x onerror=alert(1)>",
    "a\\",
    "~~~",
    "&amp; & <",
]


def report(text="m", command="m"):
    """Everything that a report may hold, with this text wherever text can be."""
    blocks = (
        Sentence(text),
        Note("CPU", text),
        Table(text, (text, "ms", "ms"), ((text, Number("1.50", 1.5), "a"), ("b", Number("2.50", 2.5), text)), True),
        Drawing("d", text, text, None),
        Photograph(b"", text),
        Command(command),
    )
    return Report(text, (text, text), (Note(text, text),), (Section("s", text, blocks), Section("t", "empty")))


def texts(markdown_text):
    """What a reader sees of each block, markup gone."""
    return [
        "".join(child.content for child in token.children)
        for token in PARSER.parse(markdown_text)
        if token.type == "inline"
    ]


def test_all_of_a_report_in_its_order():
    whole = Report(
        "mpbench on a CPU, 2026-04-01",
        ("Yes, it pays: 1.546 [1.530, 1.561] times as fast.", "Accuracy is as it was."),
        (Note("CPU", "these figures say nothing about GPUs"),),
        (
            Section(
                "speed",
                "Speed",
                (
                    Sentence("One per model."),
                    Table("Table 4", ("model", "ms"), (("vgg16", Number("303.00", 303.0)), ("a_b", ""))),
                    Drawing("speedups", "Speedup over float32", "Right of 1 is faster.", None),
                    Photograph(b"\xff", "cat.7.jpg, a cat: float32 was right"),
                    Command("make bench\npytest --mp-models 'a b'"),
                ),
            ),
        ),
    )
    assert markdown(whole) == (
        "## mpbench on a CPU, 2026-04-01\n\n"
        "**Yes, it pays: 1.546 \\[1.530, 1.561\\] times as fast.**\n\n"
        "Accuracy is as it was.\n\n"
        "> **CPU**: these figures say nothing about GPUs\n\n"
        "### Speed\n\n"
        "One per model.\n\n"
        "**Table 4**\n\n"
        "| model | ms |\n| --- | ---: |\n| vgg16 | 303.00 |\n| a\\_b |  |\n\n"
        "**Figure: Speedup over float32.** Right of 1 is faster.\n\n"
        "- cat.7.jpg, a cat: float32 was right\n\n"
        "```sh\nmake bench\npytest --mp-models 'a b'\n```\n"
    )


@pytest.mark.parametrize("hostile", MORE_HOSTILE)
def test_hostile_text_comes_out_as_text_wherever_it_stands(hostile):
    text = markdown(report(hostile))
    types = set(inline_types(PARSER.parse(text)))
    assert types <= set(inline_types(PARSER.parse(markdown(report("m"))))) | {"code_inline", "text_special"}
    seen = visible(hostile).replace("(empty)", "")
    assert len(headings(text)) == 3
    assert set(texts(text)) >= {seen} - {""}
    (table,) = cells(text)
    assert [len(row) for row in table] == [3, 3, 3]
    assert table[1][0] == seen


def test_what_github_would_link_is_code():
    text = "ask @somebody about #1 and deadbeef0123 at www.example.invalid, please :smile:"
    assert plain(text) == "ask `@somebody` about `#1` and `deadbeef0123` at `www.example.invalid,` please `:smile:`"


@given(st.text(max_size=60))
def test_any_text_is_shown_whole(text):
    tokens = PARSER.parse(plain(text))
    assert {token.type for token in tokens} <= {"paragraph_open", "inline", "paragraph_close"}
    assert not set(inline_types(tokens)) & {"link_open", "image", "html_inline", "em_open", "strong_open", "s_open"}
    assert "".join(texts(plain(text))) == visible(text).replace("(empty)", "") or text.strip() == "(empty)"


@pytest.mark.parametrize("command", ["```\n# x", "a\n````\nb", "x \x1b[2J", "~~~"])
def test_a_command_stays_in_its_block(command):
    text = markdown(report(command=command))
    (fence,) = [token for token in PARSER.parse(text) if token.type == "fence"]
    assert fence.content.splitlines() == [line.replace("\x1b", " ") for line in command.splitlines()]
    assert headings(text)[-1] == "empty"


def test_a_huge_report_is_cut_where_a_line_ends():
    table = Table("t", ("a", "b"), (("x" * 200, "y"),) * 8000)
    text = markdown(Report("r", (), (), (Section("s", "s", (table,)),)))
    assert MAX_MARKDOWN_BYTES - 500 < len(text.encode()) <= MAX_MARKDOWN_BYTES
    assert text.endswith("|\n\nCut here: a longer text would not be shown.\n")
    assert len(plain("x" * 10**6)) < MAX_WORD_CHARACTERS + 10

"""The Markdown summary: the outcome first, names as text."""

from records import accuracy_record, pair
from test_gate import EARLIER, SLOW, saved_run

from mpbench.gate import judge
from mpbench.gate_rules import Rules
from mpbench.summary import markdown


def test_the_outcome_comes_first():
    verdicts = judge(saved_run(9, factors={SLOW: 1.2}), EARLIER, Rules())
    text = markdown(pair("vgg16", 300, 200), [accuracy_record()], verdicts)
    assert text.startswith("## mpbench: GATE FAILED: ")
    assert text.index("SLOWER: ") < text.index("### Speed") < text.index("Table 4") < text.index("### Accuracy")
    assert text.count("```") == 6


def test_without_a_gate_and_without_figures():
    assert markdown(pair("vgg16", 300, 200), [], None).startswith("## mpbench\n\n### Speed\n\n```text\nTable 4")
    assert markdown([], [], None) == "## mpbench\n\nNothing was measured.\n"


def test_names_cannot_leave_their_block():
    text = markdown(pair("```\n<script>alert(1)</script>", 300, 200), [], None)
    assert "\n````text\n" in text
    assert text.endswith("\n````\n")

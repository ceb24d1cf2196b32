"""mpbench.report.page: one file that asks for nothing, shows hostile text as text, and works in a real browser."""

import base64
import hashlib
import re
from html.parser import HTMLParser

import pytest
from sample_reports import PAYLOADS, a_report, hostile_blocks

from mpbench.report.content import Command, Drawing, Note, Report, Section
from mpbench.report.page import page

UNPRINTABLE = "a\u202eb\x00c\ud800d\x1be\u2066f"
VOID = frozenset(("meta", "link", "img", "br"))


class Elements(HTMLParser):
    """Each element of a page: its tag, its attributes and its text, a word of a command as the command's."""

    def __init__(self, text):
        super().__init__()
        self.found, self._open = [], []
        self.feed(text)
        assert not self._open

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs), []))
        if tag not in VOID:
            self._open.append(self.found[-1])

    def handle_startendtag(self, tag, attrs):
        self.found.append((tag, dict(attrs), []))

    def handle_endtag(self, tag):
        assert self._open.pop()[0] == tag

    def handle_data(self, data):
        if self._open:
            within = next(element for element in reversed(self._open) if element[0] != "span")
            within[2].append(data)

    def texts(self, tag):
        return ["".join(text) for name, _, text in self.found if name == tag]

    def attributes(self, tag):
        return [attributes for name, attributes, _ in self.found if name == tag]


def hostile_report(text):
    return Report(text, [text, text], [Note(text, text)], [Section("hostile", text, hostile_blocks(text))])


@pytest.fixture(scope="module")
def whole():
    return page(a_report())


@pytest.mark.parametrize("text", PAYLOADS)
def test_hostile_text_is_only_ever_text(text):
    harmless, hostile = Elements(page(hostile_report("x" * len(text)))), Elements(page(hostile_report(text)))
    names, as_harmless = (
        # A command has as many spans as words.
        [(tag, set(attributes)) for tag, attributes, _ in elements.found if attributes or tag != "span"]
        for elements in (hostile, harmless)
    )
    assert names == as_harmless
    for tag in (
        "title",
        "h1",
        "h2",
        "li",
        "a",
        "p",
        "bdi",
        "strong",
        "code",
        "figcaption",
        "div",
        "td",
        "desc",
        "text",
    ):
        assert text in hostile.texts(tag), tag
    assert all(attributes["alt"] == text for attributes in hostile.attributes("img"))
    assert [attributes["href"] for attributes in hostile.attributes("a")] == ["#hostile"]


def test_what_has_no_shape_is_shown_as_a_question_mark():
    text = page(hostile_report(UNPRINTABLE))
    text.encode()
    assert not re.search(r"[\x00-\x09\x0b-\x1f\u202a-\u202e\u2066-\u2069\ud800-\udfff]", text)
    assert "a?b?c?d?e?f" in Elements(text).texts("td")


def test_lines_of_a_command_stay_and_odd_blanks_become_blanks():
    text = page(Report("t", [], [], [Section("s", "s", [Command("a \\\n\tb\u00a0c")])]))
    assert Elements(text).texts("code") == ["a \\\n b c"]


def test_the_policy_allows_this_style_and_this_script_alone(whole):
    elements = Elements(whole)
    [policy] = [meta["content"] for meta in elements.attributes("meta") if "http-equiv" in meta]
    allowed = dict(part.strip().split(" ", 1) for part in policy.split(";"))
    for kind in ("style", "script"):
        [text] = re.findall(rf"<{kind}>(.*?)</{kind}>", whole, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert allowed.pop(f"{kind}-src") == f"'sha256-{digest}'"
    assert allowed == {"default-src": "'none'", "img-src": "data:", "base-uri": "'none'", "form-action": "'none'"}
    assert not any("style" in attributes for _, attributes, _ in elements.found)
    assert not any(name.startswith("on") for _, attributes, _ in elements.found for name in attributes)


def test_nothing_is_asked_for(whole):
    for tag, attributes, _ in Elements(whole).found:
        for name in ("src", "href", "srcset", "data", "action"):
            value = attributes.get(name)
            assert value is None or value.startswith(("#", "data:")), (tag, value)
    assert len(whole.encode()) < 2_000_000


def test_it_opens_with_the_answer(whole):
    elements = Elements(whole)
    assert [tag for tag, *_ in elements.found if tag in ("h1", "h2")][:3] == ["h1", "h2", "h2"]
    classes = [attributes.get("class") for tag, attributes, _ in elements.found if tag in ("p", "li", "a")]
    assert classes.index("first") < classes.index("note") < len(classes)
    assert whole.index("It pays in training.") < whole.index("It pays in inference.") < whole.index("<nav")
    assert [a["href"] for a in elements.attributes("a")] == [f"#{section.name}" for section in a_report().sections]


def test_ids_are_unique_and_what_is_pointed_at_exists(whole):
    elements = Elements(whole)
    ids = [attributes["id"] for _, attributes, _ in elements.found if "id" in attributes]
    assert len(ids) == len(set(ids))
    pointed = [id for _, attributes, _ in elements.found for id in attributes.get("aria-labelledby", "").split()]
    pointed += [a["href"][1:] for a in elements.attributes("a")]
    assert pointed
    assert set(pointed) <= set(ids)


def test_each_figure_says_in_words_what_it_shows(whole):
    elements = Elements(whole)
    drawings = [block for section in a_report().sections for block in section.blocks if isinstance(block, Drawing)]
    svgs = [attributes for attributes in elements.attributes("svg") if attributes.get("class") == "figure"]
    assert len(svgs) == len(drawings)
    assert all(attributes["role"] == "img" for attributes in svgs)
    assert set(elements.texts("p")) >= {drawing.alternative for drawing in drawings}


def test_a_report_of_nothing_is_a_page():
    elements = Elements(page(Report("Nothing", [], [], [])))
    assert elements.texts("h1") == ["Nothing"]
    assert "first" not in [attributes.get("class") for attributes in elements.attributes("p")]

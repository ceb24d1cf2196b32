"""mpbench.report.page: one file that asks for nothing, shows hostile text as text, and works in a real browser."""

import base64
import hashlib
import io
import json
import math
import re
import shutil
from html.parser import HTMLParser

import pytest
from case_records import accuracy_record, pair, record
from PIL import Image

from mpbench.errors import printable
from mpbench.records.speed import Measured
from mpbench.report import figures
from mpbench.report.content import Command, Drawing, Note, Number, Photograph, Report, Section, Sentence, Table
from mpbench.report.drawing import INK, stacked, style
from mpbench.report.page import page

PAYLOADS = (
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    '"\' onmouseover=alert(1) x="',
    "</style></title></svg></script><script>alert(1)</script>",
    "javascript:alert(1)",
    "<!-- {{ 7 * 7 }} {% raw %} ]]> &lt;b&gt; &#x41;",
    "=HYPERLINK(1)",
)
HOSTILE = " ".join(PAYLOADS)
UNPRINTABLE = "a\u202eb\x00c\ud800d\x1be\u2066f"
LONG = "x" * 600
VOID = frozenset(("meta", "link", "img", "br"))
PHONE, DESK = 360, 1280


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


def jpeg():
    file = io.BytesIO()
    Image.new("RGB", (96, 64), (200, 120, 40)).save(file, "JPEG")
    return file.getvalue()


def labelled(text):
    """A figure with text from outside wherever a figure has text."""
    drawn = printable(text)
    with style():
        figure, [panel] = stacked([1.0], left=1.0)
        panel.plot([1, 2], label=drawn, color=INK)
        panel.set_title(drawn)
        panel.set_xlabel(drawn)
        panel.set_yticks([1], [drawn])
        panel.legend()
        panel.annotate(drawn, (0, 1))
    return Drawing("labelled", text, text, figure)


TABLE = Table(
    "Cases",
    ("model", "median, ms", "note"),
    (
        ("vgg16", Number("1,000", 1000.0), "NOISY"),
        ("inception_v3", Number("9.5", 9.5), "case 10"),
        ("none", "", ""),
        ("resnet152_v2", Number("n/a", math.nan), "case 9"),
        ("=1+1", Number("-20", -20.0), "case 10"),
    ),
    sortable=True,
)


def a_report():
    cases = [*pair("vgg16", 100, 50), *pair("resnet152_v2", 90, 60, phase="inference")]
    cases += [Measured(record("inception_v3", noisy=True), [0.1, 0.2, 0.15] * 4)]
    drawings = [
        figures.speedups(cases),
        *figures.step_times(cases),
        figures.memory(cases),
        figures.throughput(cases),
        figures.accuracy_differences([accuracy_record()]),
    ]
    columns = tuple(f"column {i}, ms" for i in range(16))
    wide = Table("Wide", columns, (("vgg16", *(Number(str(i), i) for i in range(15))),) * 60, sortable=True)
    return Report(
        "Mixed precision on an NVIDIA V100",
        ["It pays in training.", "It pays in inference.", "Accuracy is the same."],
        [Note("CPU", "Not a GPU.")],
        [
            Section("speedup", "Speedup", drawings),
            Section(
                "raw",
                "Raw numbers",
                [
                    Note("NOISY", "One case."),
                    TABLE,
                    wide,
                    Table("Empty", ("model",), ()),
                    Command("pytest bench/ \\\n  -k 'vgg16 and \"training\"'"),
                    Photograph(jpeg(), "A dog: float32 was right."),
                    Photograph(jpeg(), "A cat: mixed_float16 was right."),
                ],
            ),
            Section("hostile", HOSTILE, hostile_blocks(HOSTILE)),
            Section("long", LONG, hostile_blocks(LONG)[:-1]),
            Section(
                "arabic", "\u0645\u0631\u062d\u0628\u0627", hostile_blocks("\u0645\u0631\u062d\u0628\u0627 v1")[:-1]
            ),
            Section("nothing", "Nothing"),
        ],
    )


def hostile_blocks(text):
    return [
        Sentence(text),
        Note(text, text),
        Table(text, (text, text), ((text, Number(text, 1.0)), (text, text)), sortable=True),
        Command(text),
        Photograph(jpeg(), text),
        labelled(text),
    ]


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


# In a browser: one is started for all that follows.


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    webdriver = pytest.importorskip("selenium.webdriver")
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    driver = shutil.which("chromedriver")
    if chromium is None or driver is None:
        pytest.skip("no chromium, or no chromedriver, on PATH")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for argument in (
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        f"--user-data-dir={tmp_path_factory.mktemp('browser')}",
    ):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    options.set_capability("unhandledPromptBehavior", "ignore")
    started = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    yield started
    started.quit()


@pytest.fixture(scope="module")
def opened(browser, whole, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(whole, encoding="utf-8")
    browser.get_log("performance")
    browser.get(path.as_uri())
    return browser


@pytest.fixture
def at_width(opened):
    def set_width(pixels):
        values = {"width": pixels, "height": 900, "deviceScaleFactor": 1, "mobile": pixels == PHONE}
        opened.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", values)
        return opened

    yield set_width
    opened.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_browser_opens_it_without_errors_or_requests(opened):
    messages = [json.loads(entry["message"])["message"] for entry in opened.get_log("performance")]
    requests = [message["params"] for message in messages if message["method"] == "Network.requestWillBeSent"]
    # The browser's own pages ask too.
    asked = [of["request"]["url"] for of in requests if of["documentURL"] == opened.current_url]
    assert [url for url in asked if not url.startswith("data:")] == [opened.current_url]
    assert not [entry for entry in opened.get_log("browser") if entry["level"] != "INFO"]


def test_browser_runs_no_hostile_text(opened):
    from selenium.webdriver.support.expected_conditions import alert_is_present

    assert not alert_is_present()(opened)
    assert opened.execute_script("return document.scripts.length") == 1
    assert (
        opened.execute_script(
            "return [...document.querySelectorAll('*')].flatMap(e => [...e.attributes])"
            ".filter(a => a.name.startsWith('on') || a.value.match(/^\\s*javascript:/i) && a.name === 'href').length"
        )
        == 0
    )
    images = opened.execute_script("return [...document.images].map(i => i.src.slice(0, 15))")
    assert set(images) == {"data:image/jpeg"}
    shown = opened.execute_script("return document.querySelector('#hostile p').textContent")
    assert shown == HOSTILE


@pytest.mark.parametrize("width", [PHONE, 768, DESK])
def test_browser_shows_every_figure_and_scrolls_no_page_sideways(at_width, width):
    browser = at_width(width)
    sizes = browser.execute_script(
        "return [...document.querySelectorAll('svg.figure')].map(s => s.getBoundingClientRect())"
        ".map(r => [r.width, r.height])"
    )
    assert sizes
    assert all(w > 250 and h > 50 for w, h in sizes)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    # What is wider than the page stands in a box of its own that scrolls.
    beyond = browser.execute_script(
        "return [...document.querySelectorAll('main *, footer *')].filter(e => !e.parentElement.closest('.scroll, svg')"
        " && e.getBoundingClientRect().right > innerWidth + 1).map(e => e.outerHTML.slice(0, 80))"
    )
    assert beyond == []


def column(browser, number):
    return browser.execute_script(
        "return [...document.querySelectorAll('#raw table.sortable')[0].tBodies[0].rows]"
        ".map(r => r.cells[arguments[0]].textContent)",
        number,
    )


def test_browser_sorts_by_click_and_by_keyboard(opened):
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    table = opened.find_element(By.CSS_SELECTOR, "#raw table.sortable")
    heads = table.find_elements(By.CSS_SELECTOR, "thead th")
    buttons = table.find_elements(By.CSS_SELECTOR, "thead th button")
    assert len(buttons) == len(heads) == 3
    buttons[1].click()
    assert column(opened, 1) == ["-20", "9.5", "1,000", "", "n/a"]
    assert [head.get_attribute("aria-sort") for head in heads] == [None, "ascending", None]
    buttons[1].click()
    assert column(opened, 1) == ["1,000", "9.5", "-20", "", "n/a"]
    assert heads[1].get_attribute("aria-sort") == "descending"
    buttons[2].send_keys(Keys.ENTER)
    assert column(opened, 2) == ["case 9", "case 10", "case 10", "NOISY", ""]
    assert [head.get_attribute("aria-sort") for head in heads] == [None, None, "ascending"]
    buttons[2].send_keys(Keys.SPACE)
    assert column(opened, 2) == ["NOISY", "case 10", "case 10", "case 9", ""]


def test_browser_copies_a_table_and_a_command(opened):
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import WebDriverWait

    for name in ("clipboardReadWrite", "clipboardSanitizedWrite"):
        opened.execute_cdp_cmd("Browser.grantPermissions", {"permissions": [name, "clipboardReadWrite"]})

    def copied(selector):
        button = opened.find_element(By.CSS_SELECTOR, selector)
        button.click()
        WebDriverWait(opened, 10).until(lambda _: button.text == "Copied")
        return opened.execute_async_script(
            "navigator.clipboard.readText().then(arguments[0], e => arguments[0]('' + e))"
        )

    lines = copied("#raw .table .copy").split("\n")
    assert lines[0] == "model\tmedian, ms\tnote"
    assert sorted(lines[1:]) == sorted(
        [
            "vgg16\t1,000\tNOISY",
            "inception_v3\t9.5\tcase 10",
            "none\t\t",
            "resnet152_v2\tn/a\tcase 9",
            "'=1+1\t-20\tcase 10",
        ]
    )
    assert copied("#raw .command .copy") == "pytest bench/ \\\n  -k 'vgg16 and \"training\"'"
    # Where the page may not write to the clipboard by itself, as in an older browser.
    opened.execute_script("Object.defineProperty(navigator, 'clipboard', {value: undefined, configurable: true})")
    button = opened.find_element(By.CSS_SELECTOR, "#hostile .command .copy")
    button.click()
    assert button.text == "Copied"
    opened.execute_script("delete navigator.clipboard")
    assert (
        opened.execute_async_script("navigator.clipboard.readText().then(arguments[0], e => arguments[0]('' + e))")
        == HOSTILE
    )


CONTRASTS = """
const channels = (colour) => colour.match(/[\\d.]+/g).map(Number);
const luminance = (colour) => channels(colour).slice(0, 3)
  .map((c) => c / 255).map((c) => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
  .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
const behind = (element) => {
  for (let e = element; e; e = e.parentElement) {
    const colour = getComputedStyle(e).backgroundColor;
    if ((channels(colour)[3] ?? 1) === 1) return colour;
  }
  return "rgb(255, 255, 255)";
};
return [...document.body.querySelectorAll("*")]
  .filter((e) => [...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim()) && e.getClientRects().length)
  .filter((e) => !e.closest("script"))
  .map((e) => {
    const style = getComputedStyle(e);
    const [a, b] = [luminance(e.closest("svg") ? style.fill : style.color), luminance(behind(e))];
    return [(Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), e.outerHTML.slice(0, 80), luminance(behind(e))];
  });
"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_browser_shows_text_that_can_be_read(opened, scheme):
    feature = {"name": "prefers-color-scheme", "value": scheme}
    opened.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
    found = opened.execute_script(CONTRASTS)
    opened.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    assert len(found) > 100
    assert any("<text" in where for _, where, _ in found)
    assert all((background < 0.1) == (scheme == "dark") for _, _, background in found)
    assert [one for one in found if one[0] < 4.5] == []


def test_browser_prints_all_in_ink_on_paper(opened):
    dark = {"name": "prefers-color-scheme", "value": "dark"}
    opened.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print", "features": [dark]})
    assert opened.execute_script("return getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    overflow, shown = opened.execute_script(
        "return ['.scroll', '.copy'].map(s => getComputedStyle(document.querySelector(s)))"
        ".map((style, i) => i ? style.display : style.overflowX)"
    )
    opened.execute_script("dispatchEvent(new Event('beforeprint'))")
    closed = opened.execute_script("return document.querySelectorAll('details.long:not([open])').length")
    opened.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "", "features": []})
    assert (overflow, shown, closed) == ("visible", "none", 0)


def test_browser_logged_no_error_until_now(opened):
    assert not [entry for entry in opened.get_log("browser") if entry["level"] == "SEVERE"]

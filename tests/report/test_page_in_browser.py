"""mpbench.report.page in a real browser: it works, asks for nothing and runs no text. One is started for all tests."""

import json
import shutil

import pytest
from sample_reports import HOSTILE, a_report

from mpbench.report.page import page

pytestmark = pytest.mark.browser

PHONE, DESK = 360, 1280


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
def opened(browser, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(page(a_report()), encoding="utf-8")
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
    assert copied("#hostile .command .copy") == HOSTILE


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

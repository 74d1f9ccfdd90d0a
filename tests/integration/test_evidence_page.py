"""The report of an evidence pack in a browser: for everybody, on every screen, and without a network.

It needs Chromium, which `apt-get install chromium` installs. The tests are skipped where there is none.
"""

from __future__ import annotations

import shutil
from datetime import date
from typing import TYPE_CHECKING, Any, Final

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import sync_playwright

from tests.histories import accounts, at, period, quarter
from tests.sealed_histories import SealedHistory

if TYPE_CHECKING:
    from collections.abc import Iterator

    from playwright.sync_api import Browser, Page

CHROMIUM: Final = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium: apt-get install chromium")
#: Nothing that the browser does by itself, and no sandbox, which root cannot have.
QUIET: Final = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
#: What Deque's rules call the success criteria of WCAG 2.2 up to level AA, and their own advice.
RULES: Final = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
PHONE, WIDE = 360, 1600


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the address of a report in which everything is: gaps, failures, drift, findings, long texts."""
    history = quarter(members=12, joins=6, sweeps_a_day=1)
    history.act(at(20), reason="x" * 900)
    history.fail(accounts(1)[0], at(21), code="AccessDeniedException")
    history.sweep(at(31, 23), members=14, gaps=[(accounts(9)[8], "p-aaaaaaaa", "DRIFTED")])
    scratch = tmp_path_factory.mktemp("packs")
    sealed, folder = SealedHistory(history), scratch / "q3"
    sealed.change(next(key for key in history.objects if key.startswith("evidence/2026/07")), b"?")
    options = (*period(last=date(2026, 7, 31)), "--reveal")
    history.tool.run("evidence", str(folder), *options, XDG_CACHE_HOME=str(scratch / "cache"))
    return (folder / "report.html").as_uri()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=[*QUIET])
        yield browser
        browser.close()


def opened(browser: Browser, address: str, width: int = WIDE, **options: Any) -> Page:
    page = browser.new_context(viewport={"width": width, "height": 900}, **options).new_page()
    page.goto(address)
    return page


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [PHONE, WIDE])
def test_axe_finds_nothing(browser: Browser, address: str, scheme: str, width: int) -> None:
    page = opened(browser, address, width, color_scheme=scheme)
    page.eval_on_selector_all("details", "all => all.forEach(each => { each.open = true })")

    found = Axe().run(page, options={"runOnly": RULES, "resultTypes": ["violations"]}).response

    assert len(found["passes"]) > 20
    assert [(each["id"], each["nodes"][0]["html"]) for each in found["violations"]] == []


@pytest.mark.parametrize("width", [320, PHONE, 768, 1024, WIDE])
def test_the_page_itself_does_not_scroll_sideways(browser: Browser, address: str, width: int) -> None:
    page = opened(browser, address, width)
    page.eval_on_selector_all("details", "all => all.forEach(each => { each.open = true })")

    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_the_page_asks_for_nothing_and_breaks_no_rule_of_its_policy(browser: Browser, address: str) -> None:
    page = browser.new_context().new_page()
    asked: list[str] = []
    said: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: said.append(message.text))
    page.goto(address)

    assert asked == [address]
    assert said == []
    assert page.eval_on_selector("h1", "each => getComputedStyle(each).fontWeight") == "650", "the style is in force"


def test_no_script_of_the_page_would_run(browser: Browser, address: str) -> None:
    page = opened(browser, address)

    page.evaluate("document.body.append(Object.assign(document.createElement('script'), {text: 'window.ran = 1'}))")

    assert page.evaluate("window.ran") is None


def test_a_keyboard_reaches_the_report_and_every_part_that_scrolls(browser: Browser, address: str) -> None:
    page = opened(browser, address, PHONE)

    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the report"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    scrolling = page.eval_on_selector_all(
        "main *",
        """all => all.filter(each => each.scrollWidth > each.clientWidth + 1 && each.tabIndex < 0
             && getComputedStyle(each).overflowX === 'auto').length""",
    )
    assert scrolling == 0
    page.focus(".scroll")
    assert page.eval_on_selector(".scroll", "each => getComputedStyle(each).outlineStyle") == "solid"


def test_what_is_folded_on_the_screen_is_open_on_paper(browser: Browser, address: str) -> None:
    page = opened(browser, address)
    height = "document.querySelector('#days').closest('details').getBoundingClientRect().height"

    folded = page.evaluate(height)
    page.emulate_media(media="print")
    assert page.evaluate(height) > 10 * folded
    assert page.evaluate("getComputedStyle(document.querySelector('nav')).display") == "none"
    assert page.evaluate("getComputedStyle(document.querySelector('thead')).display") == "table-header-group"

"""The page as a browser shows it: nothing loaded, nothing cut off, all reached by keyboard."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import INSTALL, Tab, browser, executable

from pytest_edgeai.report.content import Report

pytest.importorskip("matplotlib", reason='run: pip install "pytest-edgeai[html]"')

from planted_pages import many, rich

from pytest_edgeai.report.html import render_html
from pytest_edgeai.report.palette import DARK, LIGHT

PROGRAM = executable()
pytestmark = pytest.mark.skipif(PROGRAM is None, reason=f"needs Chromium; {INSTALL}")

PHONE, DESK = (390, 844), (1280, 900)
OPEN_ALL = "document.querySelectorAll('details').forEach(each => each.open = true)"
WIDER = """
[...document.querySelectorAll('main *, header *, nav *, footer *')]
  .filter(each => !each.closest('.scrolls, pre, .folds thead')
    && each.getBoundingClientRect().right > innerWidth + 1)
  .map(each => each.outerHTML.slice(0, 120))
"""
SMALLEST_TEXT = """
Math.min(...[...document.querySelectorAll('svg.plot text')].map(each => {
  const svg = each.ownerSVGElement;
  const scale = svg.getBoundingClientRect().width / svg.viewBox.baseVal.width;
  return parseFloat(getComputedStyle(each).fontSize) * scale;
}))
"""
CUT_OFF = """
[...document.querySelectorAll('svg.plot text')].filter(each => {
  const box = each.getBoundingClientRect(), own = each.ownerSVGElement.getBoundingClientRect();
  return box.left < own.left - 2 || box.right > own.right + 2 || box.top < own.top - 2
    || box.bottom > own.bottom + 2;
}).map(each => each.textContent)
"""


@pytest.fixture(name="tab", scope="module")
def tab_fixture(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tab]:
    assert PROGRAM is not None
    with browser(PROGRAM, tmp_path_factory.mktemp("chromium")) as tab:
        yield tab


@pytest.fixture(name="page", scope="module")
def page_fixture(typical_once: Report, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(render_html(rich(typical_once)), encoding="utf-8")
    return path


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("size", [PHONE, DESK], ids=["phone", "desk"])
def test_nothing_is_loaded_complained_of_or_cut_off(
    tab: Tab, page: Path, tmp_path: Path, size: tuple[int, int], dark: bool
) -> None:
    tab.look(*size, dark=dark)
    tab.open(page)
    tab.evaluate(OPEN_ALL)
    assert tab.evaluate("document.documentElement.scrollWidth") <= size[0]
    assert tab.evaluate(WIDER) == []
    assert tab.evaluate(CUT_OFF) == []
    assert tab.evaluate(SMALLEST_TEXT) >= 8.5
    tab.shoot(tmp_path / "page.png")
    assert (tmp_path / "page.png").stat().st_size > 10_000
    assert tab.requests == [page.resolve().as_uri()]
    assert tab.complaints == []


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_the_colors_follow_the_reader(tab: Tab, page: Path, dark: bool) -> None:
    palette = DARK if dark else LIGHT
    tab.look(*DESK, dark=dark)
    tab.open(page)

    def color(selector: str, name: str) -> str:
        found: str = tab.evaluate(
            f"getComputedStyle(document.querySelector({selector!r})).getPropertyValue({name!r})"
        )
        return "#" + "".join(f"{int(part):02x}" for part in found[4:-1].split(","))

    assert color("html", "background-color") == palette.page
    assert color("body", "color") == palette.ink
    assert color(".mark.good", "color") == palette.good
    assert color("svg.plot text", "fill") == palette.ink


def test_the_policy_of_the_page_stops_scripts(tab: Tab, page: Path, tmp_path: Path) -> None:
    """What escaping keeps out could not run either."""
    text = page.read_text("utf-8")
    planted = tmp_path / "planted.html"
    script = "<script>document.title = 'ran'</script>"
    planted.write_text(text.replace("</main>", f"{script}</main>"), encoding="utf-8")
    tab.look(*DESK, dark=False)
    tab.open(planted)
    assert "pytest-edgeai" in tab.evaluate("document.title")
    assert any("Content Security Policy" in each for each in tab.complaints)


def test_the_keyboard_reaches_everything(tab: Tab, page: Path) -> None:
    tab.look(*DESK, dark=False)
    tab.open(page)
    focused = "document.activeElement"
    tab.press("Tab")
    assert tab.evaluate(f"{focused}.textContent") == "Skip to the content"
    assert tab.evaluate(f"{focused}.getBoundingClientRect().left") >= 0, "seen while focused"
    outline = f"getComputedStyle({focused}).outlineStyle"
    assert tab.evaluate(outline) == "solid"
    stops = []
    closed = "document.querySelectorAll('.candidate')[1]"
    assert not tab.evaluate(f"{closed}.open")
    for _ in range(200):
        tab.press("Tab")
        if tab.evaluate(f"{focused} === document.body"):
            break
        stops.append(tab.evaluate(f"{focused}.tagName"))
        assert tab.evaluate(outline) == "solid", "the focus can be seen"
        if tab.evaluate(f"{focused} === {closed}.querySelector('summary')"):
            tab.press("Enter")
            assert tab.evaluate(f"{closed}.open"), "Enter opens the details"
    # One more for the link that skips, which the first Tab reached.
    count = tab.evaluate(
        "[...document.querySelectorAll('a, summary, [tabindex=\"0\"]')]"
        ".filter(each => each.checkVisibility()).length"
    )
    assert len(stops) + 1 == count
    assert {"A", "SUMMARY", "DIV", "PRE"} <= set(stops)


def test_assistive_technology_hears_tables_and_plots(tab: Tab, page: Path) -> None:
    tab.look(*PHONE, dark=False)
    tab.open(page)
    tab.evaluate(OPEN_ALL)
    heard = tab.heard()
    assert {"main", "navigation", "banner", "contentinfo", "table", "image"} <= {
        r for r, _ in heard
    }
    names = [name for role, name in heard if role == "image"]
    assert "Latency of both models" in names
    assert all(names)
    headers = [name for role, name in heard if role == "columnheader"]
    assert "threshold" in headers, "tables that are folded on a phone are still tables"


def test_a_hundred_candidates_fit_a_phone(tab: Tab, typical: Report, tmp_path: Path) -> None:
    path = tmp_path / "many.html"
    path.write_text(render_html(many(typical, 100)), encoding="utf-8")
    tab.look(*PHONE, dark=True)
    tab.open(path)
    assert tab.evaluate("document.documentElement.scrollWidth") <= PHONE[0]
    assert tab.evaluate(CUT_OFF) == []
    assert tab.complaints == []

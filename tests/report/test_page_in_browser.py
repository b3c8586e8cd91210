"""The page of a report in headless Chromium."""

from __future__ import annotations

from dataclasses import replace

import pytest

from poslab.report.figures import Section, write_report
from tests.report.chromium import chromium, complaints
from tests.report.sample_report import NASTY, heat_map, sections, write_sample

pytestmark = pytest.mark.needs("chromium")


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    return write_sample(tmp_path_factory.mktemp("report"))


@pytest.fixture(scope="module")
def browser():
    with chromium() as page:
        yield page


def column(browser, table: str, number: int) -> list[str]:
    """The text of a column's cells that can be seen, from top to bottom."""
    cells = f"document.querySelectorAll('#figure-{table} td:nth-child({number})')"
    return browser.run(f"[...{cells}].filter((cell) => cell.checkVisibility()).map((cell) => cell.textContent)")


@pytest.mark.parametrize("width", [360, 1280])
def test_page_is_quiet_alone_and_fits_its_window(browser, page, width):
    browser.open(page, width)
    assert complaints(browser) == [page.as_uri()]
    assert browser.run("document.documentElement.scrollWidth") <= width
    sizes = browser.run("[...document.querySelectorAll('main img')].map((i) => [i.naturalWidth, i.clientWidth])")
    assert len(sizes) == 2
    assert all(natural > 0 and min(width - 40, 690) < shown < width for natural, shown in sizes)
    boxes = browser.run("[...document.querySelectorAll('.box')].map((b) => [b.clientWidth, b.scrollWidth])")
    assert boxes[1][0] < width < boxes[1][1]  # the wide table moves inside of its box


def test_a_lead_is_the_first_thing_to_see_on_a_phone_and_its_wide_table_moves_inside_of_its_box(browser, tmp_path):
    first, wide, _ = sections()
    lead = Section("Conclusion", "Rotary is best.", [wide.figures[1]])
    write_report(tmp_path / "report.html", "Report", {"run": "outputs/a"}, [first], lead=lead)
    browser.open(tmp_path / "report.html", 360)
    assert browser.run("document.documentElement.scrollWidth") <= 360
    tops = (
        "['#lead p', '.facts', 'nav', '#section-1'].map((s) => document.querySelector(s).getBoundingClientRect().top)"
    )
    positions = browser.run(tops)
    assert positions == sorted(positions) and positions[0] < 200
    shown, whole = browser.run(
        "(() => { const b = document.querySelector('#lead .box'); return [b.clientWidth, b.scrollWidth]; })()"
    )
    assert shown < 360 < whole


def test_a_picture_of_many_labels_keeps_its_size_and_moves_inside_of_its_box(browser, tmp_path):
    wide = replace(heat_map(), shrinks=False)
    write_report(tmp_path / "report.html", "Report", {}, [Section("Maps", "", [wide])])
    browser.open(tmp_path / "report.html", 360)
    assert browser.run("document.documentElement.scrollWidth") <= 360
    assert browser.run("document.querySelector('main img').clientWidth") > 690
    assert browser.run("(() => { const b = document.querySelector('.box'); return b.scrollWidth > b.clientWidth; })()")
    browser.run("document.querySelector('#figure-heat_map .zoom').click()")  # its middle is beyond the window
    assert browser.run("document.querySelector('dialog').open")


def test_page_that_is_not_alone_or_quiet_would_be_noticed(browser, tmp_path):
    noisy = tmp_path / "noisy.html"
    noisy.write_text("<img src='http://elsewhere.invalid/x.png'><script>console.error('told'); broken()</script>")
    browser.open(noisy, 400)
    result = " ".join(complaints(browser))
    assert "http://elsewhere.invalid/x.png" in result and "'told'" in result and "broken is not defined" in result


def test_click_on_a_heading_sorts_by_number_and_back_with_what_is_missing_last(browser, page):
    browser.open(page, 1280)
    heading = "#figure-losses th:nth-child(2)"
    state = f"document.querySelector('{heading}').getAttribute('aria-sort')"
    assert browser.run(state) is None
    browser.click(f"{heading} button")
    assert browser.run(state) == "ascending"
    assert column(browser, "losses", 2) == ["−100.000", "2.125", "9.250", "10.500", "∞", "–"]
    assert column(browser, "losses", 1) == ["–", "T5 8", "ALiBi", "rotary", "T5 16", NASTY]  # rows stay together
    browser.click(f"{heading} button")
    assert browser.run(state) == "descending"
    assert column(browser, "losses", 2) == ["∞", "10.500", "9.250", "2.125", "−100.000", "–"]


def test_keyboard_sorts_words_with_their_numbers_in_order(browser, page):
    browser.open(page, 1280)
    browser.click("#figure-losses th:nth-child(2) button")
    browser.run("document.querySelector('#figure-losses th:nth-child(1) button').focus()")
    browser.press("Enter", 13, "\r")
    assert column(browser, "losses", 1) == [NASTY, "ALiBi", "rotary", "T5 8", "T5 16", "–"]
    sorts = "[...document.querySelectorAll('#figure-losses th')].map((th) => th.getAttribute('aria-sort'))"
    assert browser.run(sorts) == ["ascending", None]


def test_long_table_shows_its_first_rows_until_one_asks_for_all(browser, page):
    browser.open(page, 360)
    button = "document.querySelector('#figure-long .more')"
    assert column(browser, "long", 1) == [str(position) for position in range(30)]
    assert browser.run(f"{button}.textContent") == "Show all 60 rows"
    for _ in range(2):
        browser.click("#figure-long th:nth-child(2) button")
    assert column(browser, "long", 1) == [str(position) for position in range(59, 29, -1)]
    browser.click("#figure-long .more")
    assert len(column(browser, "long", 1)) == 60
    assert browser.run(f"[{button}.textContent, {button}.ariaExpanded]") == ["Show the first 30 rows", "true"]


@pytest.mark.parametrize("by", ["mouse", "keyboard"])
def test_figure_opens_as_large_as_the_window_and_escape_closes_it(browser, page, by):
    browser.open(page, 1280)
    if by == "mouse":
        browser.click("#figure-heat_map .zoom")
    else:
        browser.run("document.querySelector('#figure-heat_map .zoom').focus()")
        browser.press("Enter", 13, "\r")
    assert browser.run("document.querySelector('dialog').matches(':modal')")
    width, height, alt = browser.run(
        "(() => { const i = document.querySelector('dialog img'); return [i.clientWidth, i.clientHeight, i.alt]; })()"
    )
    assert width > 1100 and height > 700 and alt == "Heat map. Bright is found."
    browser.press("Escape", 27)
    assert not browser.run("document.querySelector('dialog').open")
    assert browser.run("document.activeElement.closest('article').id") == "figure-heat_map"
    assert complaints(browser) == [page.as_uri()]


def test_paper_is_black_on_white_with_all_rows_and_nothing_to_press(browser, page):
    dark = [{"name": "prefers-color-scheme", "value": "dark"}]
    colours = "(() => { const s = getComputedStyle(document.documentElement); return [s.color, s.backgroundColor]; })()"
    try:
        browser.call("Emulation.setEmulatedMedia", media="screen", features=dark)
        browser.open(page, 700)
        assert browser.run(colours) == ["rgb(230, 233, 237)", "rgb(20, 23, 27)"]
        browser.call("Emulation.setEmulatedMedia", media="print", features=dark)
        assert browser.run(colours) == ["rgb(0, 0, 0)", "rgb(255, 255, 255)"]
        assert len(column(browser, "long", 1)) == 60
        assert not browser.run("document.querySelector('.more').checkVisibility()")
        style = "getComputedStyle(document.querySelector('#figure-curve')).breakInside"
        assert browser.run(style) == "avoid"
    finally:
        browser.call("Emulation.setEmulatedMedia", media="", features=[])

"""The report of a comparison in headless Chromium, on a phone and on a desk."""

from __future__ import annotations

import io

import pytest

from poslab.experiments.report.write import write
from poslab.io.terminal import HarmlessConsole
from tests.experiments.comparisons import COPYING, TUNING, results
from tests.report.chromium import chromium, complaints

pytestmark = [pytest.mark.slow, pytest.mark.needs("chromium")]

TABLE = "[...document.querySelectorAll('table')].find((table) => table.textContent.includes('best mean'))"
BEST = f"{TABLE}.querySelectorAll('td')[2]"
SIZES = "[...document.querySelectorAll('main img')].map((i) => [i.naturalWidth, i.clientWidth])"
BOXES = "[...document.querySelectorAll('.box')].map((b) => [b.clientWidth, b.scrollWidth])"
METRICS = {f"exact_match@{where}": {"direction": "maximize", "margin": 2} for where in ("beyond", "trained", "20")}
PAPER = {"title": "A paper", "arxiv": "2305.19466"}


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """The page of a comparison with all that one can have: two cases, tuning, several metrics, costs, a paper."""
    folder = tmp_path_factory.mktemp("comparison")
    found = results(
        cases={f"a_case_with_a_long_name_{place}": COPYING for place in range(2)},
        metrics=METRICS,
        tuning=TUNING,
        output=str(folder),
        costs=["parameters", "train_tokens_per_second"],
        paper=PAPER,
        claims=[{"say": "none wins", "better": "none", "than": "rotary", "case": "a_case_with_a_long_name_0"}],
        published=[{"case": "copy", "encoding": "none", "value": 30.5, "seen": "raw_results"}],
        differences=["Ours is smaller."],
    )
    write(found, HarmlessConsole(io.StringIO(), width=80), f"python -m src.compare comparison=question {'x' * 200}")
    return folder / "report.html"


@pytest.fixture(scope="module")
def browser():
    with chromium() as page:
        yield page


@pytest.mark.parametrize("width", [390, 1280])
def test_the_report_is_quiet_alone_and_fits_its_window(browser, page, width):
    browser.open(page, width)
    assert complaints(browser) == [page.as_uri()]
    assert browser.run("document.documentElement.scrollWidth") <= width
    sizes = browser.run(SIZES)
    assert sizes and all(natural > 0 and shown < width for natural, shown in sizes)


@pytest.mark.parametrize("width", [390, 1280])
def test_the_answer_is_in_the_first_window(browser, page, width):
    browser.open(page, width)
    assert browser.run(f"{BEST}.textContent") == "none"
    assert browser.run(f"{BEST}.getBoundingClientRect().bottom") < 800


def test_wide_tables_scroll_within_themselves_on_a_phone(browser, page):
    browser.open(page, 390)
    boxes = browser.run(BOXES)
    assert all(shown <= 390 for shown, _ in boxes)
    assert any(shown < whole for shown, whole in boxes)

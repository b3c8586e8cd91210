"""The explorer's page in headless Chromium: it is alone, quiet and readable, and its knobs turn."""

from __future__ import annotations

import re

import pytest
from docs.pages.explorer import PAGE

from poslab.explorer import explorer_page, write_explorer
from tests.report.chromium import chromium, complaints

in_a_browser = pytest.mark.needs("chromium")

SENTENCES = "[...document.querySelectorAll('#a .seen li')].map((li) => li.textContent)"


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    path = tmp_path_factory.mktemp("explorer") / "explorer.html"
    write_explorer(path)
    return path


@pytest.fixture(scope="module")
def browser():
    with chromium() as page:
        yield page


def choose(browser, **state: object) -> None:
    """Open a state by the fragment of the address, and wait until it is drawn."""
    browser.run(f"location.hash = '{'&'.join(f'{key}={value}' for key, value in state.items())}'")
    drawn(browser)


def drawn(browser) -> None:
    browser.run("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")


def test_the_committed_page_is_what_the_code_makes_now():
    assert PAGE.read_text(encoding="utf-8") == explorer_page(), "python docs/make.py explorer"


@in_a_browser
@pytest.mark.parametrize("width", [390, 1280])
def test_every_encoding_is_drawn_inside_of_its_charts_by_a_page_that_is_quiet_and_alone(browser, page, width):
    browser.open(page, width)
    for name in browser.run("Object.keys(ENCODINGS)"):
        for length in (64, 4096):
            choose(browser, a=name, b="none", shown=length, heads=8)
            outside, smallest = browser.run(
                """(() => {
                  const svgs = [...document.querySelectorAll("figure:not([hidden]) svg")];
                  const texts = svgs.flatMap((svg) => [...svg.querySelectorAll("text")].map((text) => [svg, text]));
                  const sticksOut = ([svg, text]) => {
                    const [inner, outer] = [text.getBoundingClientRect(), svg.getBoundingClientRect()];
                    return inner.left < outer.left - 1 || inner.right > outer.right + 1 || inner.top < outer.top - 1;
                  };
                  const size = Math.min(...texts.map(([svg, text]) => text.getBoundingClientRect().height));
                  return [texts.filter(sticksOut).map(([, text]) => text.textContent), size];
                })()"""
            )
            assert (name, length, outside) == (name, length, [])
            assert smallest > 11
            assert browser.run("document.documentElement.scrollWidth") <= width
            assert not browser.run("/NaN|undefined|Infinity/.test(document.body.innerHTML.replace(/<script.*/s, ''))")
    assert complaints(browser)[0].startswith(page.as_uri()) and len(complaints(browser)) == 1


@in_a_browser
def test_pairs_that_never_complete_a_turn_are_counted_in_words(browser, page):
    browser.open(page, 1280)
    assert re.findall(r"\d+", browser.run(SENTENCES)[0]) == ["9", "16", "256"]
    choose(browser, a="rotary", trained=512, headDim=64)
    assert re.findall(r"\d+", browser.run(SENTENCES)[0]) == ["16", "32", "512"]
    choose(browser, a="hope", trained=256, headDim=32)
    turn, stand, *_ = browser.run(SENTENCES)
    assert re.findall(r"\d+", turn) == ["0", "7", "256"]
    assert stand.startswith("9 pairs")


@in_a_browser
def test_the_base_bound_is_that_of_the_paper(browser, page):
    browser.open(page, 1280)
    choose(browser, a="rotary", headDim=128, shown=4096, **{"a.base": 10_000})
    assert any("The smallest base that holds is 26,952." in sentence for sentence in browser.run(SENTENCES))
    choose(browser, a="rotary", headDim=128, shown=4096, **{"a.base": 1_000_000})
    assert any("The base bound holds for 4,096 tokens" in sentence for sentence in browser.run(SENTENCES))


@in_a_browser
@pytest.mark.parametrize("by", ["mouse", "keyboard"])
def test_a_slider_moves_its_curve_its_words_its_command_and_the_address(browser, page, by):
    browser.open(page, 1280)
    everything = "['#a .effect path.curve', '#a .spans svg'].map((s) => document.querySelector(s).outerHTML)"
    before = browser.run(everything)
    if by == "keyboard":
        browser.run("document.getElementById('a-base').focus()")
        browser.press("ArrowRight", 39)
    else:
        browser.click("#a-fraction")
    drawn(browser)
    after = browser.run(everything)
    assert before[0] != after[0] and before[1] != after[1]
    key, value = ("base", "15000") if by == "keyboard" else ("fraction", "0.75")
    command = browser.run("document.querySelector('#a code').textContent")
    assert command == f"python -m src.train encoding=rotary encoding.{key}={value}"
    assert f"a.{key}={value}" in browser.run("location.hash")
    shown = browser.run(f"document.getElementById('a-{key}-value').textContent")
    assert shown == browser.run(f"document.getElementById('a-{key}').getAttribute('aria-valuetext')")
    assert shown.replace(",", "") == value


@in_a_browser
def test_every_knob_has_a_label(browser, page):
    browser.open(page, 1280)
    choose(browser, a="yarn", b="t5")
    assert browser.run("[...document.querySelectorAll('input')].filter((i) => !i.labels.length).map((i) => i.id)") == []
    assert browser.run("[...document.querySelectorAll('select')].map((s) => s.ariaLabel)") == [
        "First encoding",
        "Second encoding",
    ]


@in_a_browser
def test_another_encoding_keeps_a_base_that_was_chosen(browser, page):
    browser.open(page, 1280)
    choose(browser, a="rotary", **{"a.base": 100_000})
    browser.run(
        """(() => {
          const select = document.querySelector("#a select");
          select.value = "yarn";
          select.dispatchEvent(new Event("input", { bubbles: true }));
          select.dispatchEvent(new Event("change", { bubbles: true }));
        })()"""
    )
    drawn(browser)
    command = "python -m src.train encoding=yarn encoding.base=100000"
    assert browser.run("document.querySelector('#a code').textContent") == command
    assert "a=yarn&a.base=100000" in browser.run("location.hash")


@in_a_browser
def test_another_encoding_begins_with_its_own_value_of_a_knob_that_nobody_has_moved(browser, page):
    browser.open(page, 1280)
    choose(browser, a="rope_linear")
    browser.run(
        """(() => {
          const select = document.querySelector("#a select");
          select.value = "yarn";
          select.dispatchEvent(new Event("input", { bubbles: true }));
        })()"""
    )
    drawn(browser)
    assert browser.run("state.a.knobs.factor") == 4
    assert browser.run("document.querySelector('#a code').textContent") == "python -m src.train encoding=yarn"


@in_a_browser
def test_an_address_gives_the_state_that_wrote_it_and_nonsense_the_usual_one(browser, page):
    browser.open(page, 1280)
    state = {"trained": 512, "shown": 8192, "heads": 12, "headDim": 64, "distances": "linear"}
    state |= {"a": "llama3", "a.base": 500_000, "b": "sandwich", "b.dim": 64}
    choose(browser, **state)
    browser.run("document.getElementById('log').dispatchEvent(new Event('change', { bubbles: true }))")
    words = browser.run("Object.fromEntries(new URLSearchParams(location.hash.slice(1)))")
    assert words.items() >= {key: str(value) for key, value in state.items()}.items()
    choose(browser, a="toString", b="<b>", trained="x", **{"b.max_exponent": -5})
    assert browser.run("[state.a.name, state.b.name, state.model.trained, state.b.knobs.max_exponent]") == [
        "rotary",
        "alibi",
        256,
        1,
    ]


@pytest.mark.slow
@in_a_browser
def test_two_encodings_of_one_kind_share_a_scale(browser, page):
    browser.open(page, 1280)
    ticks = "['a', 'b'].map((id) => [...document.querySelectorAll(`#${id} .effect .tick`)].map((t) => t.textContent))"
    choose(browser, a="kerple_log", b="alibi")
    item, other = browser.run(ticks)
    assert item == other
    choose(browser, a="rotary", b="alibi")
    item, other = browser.run(ticks)
    assert item != other

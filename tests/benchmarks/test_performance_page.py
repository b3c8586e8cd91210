"""docs/performance.md says what the figures say; `python docs/make.py performance` makes it so."""

import re

from pages.performance import DOCS, PAGE, draw, page
from pages.performance_bounds import Bound, Measured, bounds

from tests.conftest import ROOT

MACHINE = {"processor": "Xeon", "instructions": [], "gpu": None, "threads": 2, "memory_gib": 24, "python": "3.11.7"}
MACHINE |= {"torch": "2.13.0", "transformers": "5.24.0", "x-transformers": "2.31.10"}
LAYER = {"part": "layers", "precision": "float32", "encoding": "t5", "batch": 1}
LAYERS = [
    {**LAYER, "contestant": "Poslab", "length": 512, "time": [1.0, 1.25, 2.0], "memory": 1.5, "route": ["distance"]},
    {**LAYER, "contestant": "T5", "length": 512, "left_out": "would hold about 64 GiB, where 8 are free"},
]


def test_every_picture_of_the_page_and_of_the_readme_is_there():
    pictures = re.findall(r"!\[.*?\]\((.*?)\)", PAGE.read_text(encoding="utf-8"))
    pictures += re.findall(r"!\[.*?\]\(docs/(.*?performance.*?)\)", (ROOT / "README.md").read_text(encoding="utf-8"))
    assert pictures
    for picture in pictures:
        assert (DOCS / picture).stat().st_size < 120_000


def test_what_does_not_keep_a_bound_is_named_the_worst_first():
    bound = Bound("it is quick", 1.1, {"alibi": 1.05, "t5": 1.2, "tisa": 1.3})
    assert str(bound) == "- **Not met:** it is quick; 2 of 3 do not: 1.30 (tisa), 1.20 (t5)."


def test_a_bound_that_is_met_shows_how_nearly():
    assert str(Bound("it is small", 3.0, {"a": 1.0, "b": 2.5}, unit=" GiB")) == (
        "- **Met:** it is small; the largest of 2 is 2.50 GiB (b)."
    )
    lengths = Bound("it is fast", {"T = 128": 1.3, "T = 256": 1.2}, {"T = 128": 1.5, "T = 256": 1.25}, at_least=True)
    assert str(lengths) == "- **Met:** it is fast; it is 1.50 (T = 128), 1.25 (T = 256)."
    lengths.figures["T = 256"] = 1.196
    assert str(lengths) == "- **Not met:** it is fast; 1 of 2 do not: 1.196 (T = 256)."
    assert str(Bound("it is fast", 1.0, {"a": 1.0, "b": 2.5}, at_least=True)) == (
        "- **Met:** it is fast; the smallest of 2 is 1.00 (a)."
    )


def test_without_figures_no_bound_is_met():
    assert all(str(bound).startswith("- **Not measured yet:**") for bound in bounds(Measured("none", {}, [])))


def test_a_table_shows_medians_and_a_dash_for_what_was_left_out(tmp_path):
    measured = Measured("xeon", MACHINE, LAYERS)
    text = page([measured])
    assert "| t5 | Poslab | x 1.25 |" in text
    assert "| t5 | T5 | - |" in text
    draw(measured, tmp_path)
    assert {path.name for path in tmp_path.rglob("*.png")} == {"time_float32.png", "memory_float32.png"}

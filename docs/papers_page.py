"""The text of docs/papers.md around its comparisons: `python docs/make.py --comparison FOLDER ...`."""

from __future__ import annotations

from comparison_page import ComparisonPage, Part  # beside this file

INTRODUCTION = """\
# Claims of papers, tried here

`python docs/make.py --comparison` makes this page from comparisons. Do not edit it by hand.

[comparisons/papers](../comparisons/papers) has more papers, each with its published values and claims, ready to run."""

PARTS = {
    "kazemnejad2023": Part(
        "No encoding before all others (Kazemnejad et al. 2023)",
        """\
Models of width 64 copy, copy one word and replace words, with at most six words in training and up to twelve in the
test. Each encoding is tuned. An encoding has learned a task if it writes at least 99 % of the examples of trained
lengths exactly.""",
        "the paper's scale (12 layers of width 768), its other tasks, and its mean rank over 17 splits",
        ("exact_match@beyond", "exact_match@trained"),
        ("curves_*", "differences_*"),
    ),
}

PAGE = ComparisonPage("papers", INTRODUCTION, PARTS)

"""The text of docs/papers.md around its comparisons: `python docs/make.py --comparison FOLDER ...`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from pages.comparison import ComparisonPage, Part
from poslab.experiments.report.papers import CONFOUNDED, FAILS, HOLDS, OPEN, UNTESTED

INTRODUCTION = """\
# Claims of papers, tried here

<!-- `python docs/make.py --comparison` makes this page from comparisons. Do not edit it by hand. -->

[comparisons/papers](../comparisons/papers) has more papers, each with its published values and claims, ready to run."""


OUTCOMES = (HOLDS, FAILS, CONFOUNDED, OPEN, UNTESTED)


def _outcomes(folder: Path) -> Iterator[str]:
    """Yield how often each outcome is that of a claim."""
    found = pd.read_csv(folder / "figures" / "claims.csv")["outcome"].value_counts()
    counts = ", ".join(f"{outcome} {found[outcome]}" for outcome in OUTCOMES if outcome in found)
    yield f"Outcomes of {found.sum()} claims of the paper: {counts}."


PARTS = {
    "kazemnejad2023": Part(
        "`none` before all others (Kazemnejad et al. 2023)",
        """\
Models of width 64 copy, copy one word and replace words, with at most six words in training and up to twelve in the
test. Each encoding is tuned. An encoding has learned a task if it writes at least 99 % of the examples of trained
lengths exactly. T5's table learns at the rate of the other weights, as in the paper, but the rate of copying, 8e-3, is
267 times the paper's. At smaller rates of the table T5 copies a few per cent beyond the trained length ([T5's
table](which-encoding.md#t5s-table-at-other-learning-rates)): its result on copying is confounded by the rate. On the
other two tasks, where T5 has 0 and 1 % and the paper 77 and 94 %, no other rate was tried: take the claims on T5
there as open, whatever their outcome below.""",
        "the paper's scale (12 layers of width 768), its other tasks, and its mean rank over 17 splits",
        ("exact_match@beyond", "exact_match@trained"),
        ("curves_*", "differences_*"),
        _outcomes,
    ),
    "ruoss2023": Part(
        "Random positions (Ruoss et al. 2023)",
        """\
Encoders of width 64 sort, find a missing symbol and reverse, with at most 10 symbols in training and up to 25 in the
test. Positions are 0, 1, 2, ..., or a random, ordered subset of 128 (`_randomized`). The figure is the accuracy of
symbols; chance is 20 % for sorting and 50 % for the others.""",
        "the paper's scale (5 layers, 2,000,000 steps), its other tasks, and its maxima over seeds and learning rates",
        ("accuracy@beyond", "accuracy@trained"),
        ("curves_*", "differences_*"),
        _outcomes,
    ),
}

PAGE = ComparisonPage("papers", INTRODUCTION, PARTS)

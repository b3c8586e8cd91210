"""The text of docs/which-encoding.md around its comparisons: `python docs/make.py --comparison FOLDER ...`."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd
from comparison_page import ComparisonPage, Part  # beside this file

INTRODUCTION = """\
# Which encoding?

`python docs/make.py --comparison` makes this page from comparisons. Do not edit it by hand."""


def _spread(results: pd.DataFrame) -> Iterator[str]:
    """Yield how far differences of one encoding spread over seeds, in pairs and without."""
    for metric, rows in results.groupby("metric", sort=False):
        one, other = (group.set_index("seed")["value"] for _, group in rows.groupby("encoding"))
        paired, unpaired = (one - other).std(), (one.var() + other.var()) ** 0.5
        yield (
            f"{metric}: differences between runs of equal seed have a standard deviation of {paired:.4f}, "
            f"those between runs of any two seeds {unpaired:.4f}."
        )


PARTS = {
    "encoding_choice": Part(
        "Ten encodings on four cases",
        """\
Five seeds each, tuned alike. The models are small: two or three layers of width 64, which train in minutes on a core.
Take orders between encodings from here, not values.

- **short_training**: text in windows of 128 bytes for 600 steps, read at 1 to 16 times that length. After so few steps
  absolute encodings and `none` have not learned yet: what they show there is how slowly they learn.
- **long_training**: the same for 4,000 steps, after which they have.
- **copying**: words to be copied exactly, at most six in training, up to twelve in the test.
- **topics**: news in five classes, at the trained length alone.""",
        "large models, pretrained models (they have [a page of their own](pretrained.md)), lengths above 2,048 tokens, "
        "other languages, retrieval from long texts, and encodings that are not in the table",
        (
            *("bits_per_byte@4x", "sliding_bits_per_byte@4x", "bits_per_byte@1x"),
            *("exact_match@beyond", "exact_match@trained", "accuracy"),
        ),
        ("curves_*", "differences_*_training_bits_per_byte_4x", "differences_copying_*", "seeds_*_beyond"),
    ),
    "same_encoding": Part(
        "One encoding under two names",
        """\
How far apart are runs that differ in nothing but rounding? Ten seeds of rotary, beside ten of rotary with a base that
differs by a millionth. A comparison must say "not told apart" here, or "equal".""",
        "chance in other cases than this one",
        ("bits_per_byte@1x", "bits_per_byte@4x"),
        ("differences_*", "seeds_*"),
        _spread,
    ),
}

PAGE = ComparisonPage("which-encoding", INTRODUCTION, PARTS)

"""The text of docs/every-encoding.md around its comparison: `python docs/make.py --comparison FOLDER`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pages.comparison import ComparisonPage, Part, means

INTRODUCTION = """\
# Every encoding of texts, side by side

<!-- `python docs/make.py --comparison` makes this page from a comparison. Do not edit it by hand. -->

[Which encoding?](which-encoding.md) compares fewer, on more cases, each tuned: choose by that page."""

LEAST = 12
"""Encodings that the first sentences name."""


def _least(folder: Path) -> Iterator[str]:
    """Yield the encodings with the least bits per byte, beside rotary."""
    of = means(folder)
    for at, words in {"1x": "at the trained length", "4x": "in windows four times as long"}.items():
        by_encoding = of[f"bits_per_byte@{at}", "text"].sort_values()
        names = ", ".join(f"{name} {value:.2f}" for name, value in by_encoding.head(LEAST).items())
        yield f"Least bits per byte {words}: {names}; rotary {by_encoding['rotary']:.2f}."
    if ("sliding_bits_per_byte@512", "text") in of:
        near, far = (of[f"sliding_bits_per_byte@{at}", "text"] for at in (128, 512))
        yield (
            f"In sliding windows, rotary has {near['rotary']:.2f} at the training length; the least at four times that "
            f"is {far.min():.2f}, under {far.idxmin()}, which has {near[far.idxmin()]:.2f} at the training length."
        )


PARTS = {
    "every_encoding": Part(
        "All of them in few steps",
        """\
Text in windows of 128 bytes for 600 steps, read at 1 to 8 times that length. The models have two layers of width 64 and
one learning rate, and five times that for parameters of an encoding, of which rotary has none. Each encoding has the
values of its file in conf/encoding, but factors of scalings differ (from 2 to 32), so that these cannot be ranked.
Scalings of rotary, such as `yarn`, are made for models that have learned without them, and begin with them here.
Absolute encodings and `none` have not learned in so few steps.""",
        "tuned encodings, longer training, other data, and the uses that an encoding is made for: `abacus` for digits, "
        "scalings for trained models",
        ("bits_per_byte@4x", "bits_per_byte@1x", "bits_per_byte@8x"),
        ("curves_*", "differences_*"),
        _least,
    ),
}

PAGE = ComparisonPage("every-encoding", INTRODUCTION, PARTS)

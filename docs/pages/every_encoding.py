"""The text of docs/every-encoding.md around its comparison: `python docs/make.py --comparison FOLDER`."""

from __future__ import annotations

from pages.comparison import ComparisonPage, Part

INTRODUCTION = """\
# Every encoding of texts, side by side

`python docs/make.py --comparison` makes this page from a comparison. Do not edit it by hand.

[Which encoding?](which-encoding.md) compares fewer, on more cases, each tuned: choose by that page."""

PARTS = {
    "every_encoding": Part(
        "All of them in few steps",
        """\
Text in windows of 128 bytes for 600 steps, read at 1 to 8 times that length. The models have two layers of width 64
and one learning rate. Each encoding has the values of its file in conf/encoding: scalings of rotary, such as `yarn`,
are made for models that have learned without them, and begin with them here. Absolute encodings and `none` have not
learned in so few steps.""",
        "tuned encodings, longer training, other data, and the uses that an encoding is made for: `abacus` for digits, "
        "scalings for trained models",
        ("bits_per_byte@4x", "bits_per_byte@1x", "bits_per_byte@8x"),
        ("differences_*",),
    ),
}

PAGE = ComparisonPage("every-encoding", INTRODUCTION, PARTS)

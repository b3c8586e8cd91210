"""The text of docs/model-patterns.md around its comparison: `python docs/make.py --comparison FOLDER`."""

from __future__ import annotations

from pages.comparison import ComparisonPage, Part

INTRODUCTION = """\
# Patterns of today's models, measured

`python docs/make.py --comparison` makes this page from a comparison. Do not edit it by hand.

[Models of today](models.md) says which models follow which pattern, and has them as presets."""

PARTS = {
    "model_patterns": Part(
        "Patterns A to F",
        """\
Decoders of four layers of width 96, each tuned, read text in windows of 128 bytes and are tested at up to 16 times
that. Queries and keys are normalised.

- **local_and_global** (A): three layers see eight bytes and turn with a small base; the fourth sees all, with a large
  one.
- **local_and_none** (B): the fourth layer has no position, and a temperature that grows with the length.
- **everywhere** (C), **stretched** (C with YaRN): all layers turn with a large base.
- **a_third** (D), **a_quarter** (E): a part of each head turns.
- **none** (F): attention has no position.

The case `attention` is these alone. In `convolutions` each layer also has short convolutions (Canon A and C), which
stand for linear layers and tell the order of near tokens.""",
        "large models, longer training, the linear layers themselves, and compressed keys and values",
        ("bits_per_byte@4x", "sliding_bits_per_byte@4x", "bits_per_byte@1x"),
        ("curves_*", "differences_*_4x"),
    ),
}

PAGE = ComparisonPage("model-patterns", INTRODUCTION, PARTS)

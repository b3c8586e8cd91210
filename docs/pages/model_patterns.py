"""The text of docs/model-patterns.md around its comparison: `python docs/make.py --comparison FOLDER`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pages.comparison import ComparisonPage, Part, means, own_window, own_window_table
from poslab.report.sentences import listed

INTRODUCTION = """\
# Patterns of today's models, measured

<!-- `python docs/make.py --comparison` makes this page from a comparison. Do not edit it by hand. -->

[Models of today](models.md) says which models follow which pattern, and has them as presets."""

LENGTHS = (128, 512, 2048)
"""The training length, the one that decides, and the longest one."""

OWN_WINDOW = """\
The control: `everywhere` in sliding windows of 128 bytes, its training length, which move by half of it. The gain is
the loss at 128 bytes minus the loss at 2,048. Differences are means with 95% intervals for new seeds and new pieces of
the test; the verdicts, but not the intervals, are adjusted by Holm over the rows of a table. The margin is 0.02."""

LOSS = 0.05
"""Largest share by which bits per byte grow from the trained length to the longest one where a pattern holds."""


def _held(folder: Path) -> Iterator[str]:
    """Yield which patterns hold from the trained length to the longest one, by their means."""
    of = means(folder)
    for case in ("attention", "convolutions"):
        near, far = of["bits_per_byte@128"][case], of["bits_per_byte@2048"][case]
        shown = {name: f"{name} ({near[name]:.2f}, {far[name]:.2f})" for name in near.index}
        held = [name for name in near.index if far[name] <= (1 + LOSS) * near[name]]
        yield (
            f"In `{case}`, from 128 to 2,048 bytes, {listed([shown[name] for name in held])} hold: they are at most "
            f"{100 * LOSS:.0f} % worse. {listed([shown[name] for name in near.index.difference(held)])} do not."
        )
        if not (frame := own_window(folder, case, "everywhere", LENGTHS)).empty:
            gain = frame["gain"].map(lambda found: found.mean).max()
            losses = "; ".join(f"{name} {row[512]:.3f}, {row['verdict']}" for name, row in frame.head(2).iterrows())
            yield (
                "To hold is not to gain: from sliding windows of 128 bytes to those of 2,048, losses rise by at least "
                f"{-gain:.3f}. Next to `everywhere` in sliding windows of 128 ({frame.loc['everywhere', 128]:.3f}), "
                f"the best at 512 are {losses}."
            )


def _own_window(folder: Path) -> Iterator[str]:
    """Yield each pattern in long windows next to `everywhere` in windows of its training length."""
    frames = {case: own_window(folder, case, "everywhere", LENGTHS) for case in ("attention", "convolutions")}
    if not any(frame.empty for frame in frames.values()):
        yield "### Longer context, next to a window of the training length"
        yield OWN_WINDOW
    for case, frame in frames.items():
        if not frame.empty:
            yield f"**{case}**"
            yield own_window_table(frame, "everywhere", LENGTHS)


PARTS = {
    "model_patterns": Part(
        "Patterns A to F",
        """\
Decoders of four layers of width 96, each tuned, take 1,000 steps on text in windows of 128 bytes and are tested at up
to 16 times that. Queries and keys are normalised. Heads have 24 channels: with a base of a million, three of the twelve
pairs of `everywhere` complete a turn within 128 bytes, and one of the three of `a_quarter`. In a head of 128 a quarter
is 16 pairs, so that its failure here says nothing of large models.

- **local_and_global** (A): three layers see eight bytes and turn with a small base; the fourth sees all, with a large
  one.
- **local_and_none** (B): the fourth layer has no position, and a temperature that grows with the length.
- **everywhere** (C), **stretched** (C with YaRN from the first step on): all layers turn with a large base.
- **a_third** (D), **a_quarter** (E): a part of each head turns.
- **none** (F): attention has no position.

The case `attention` is these alone. In `convolutions` each layer also has short convolutions (Canon A and C), which
stand for linear layers and tell the order of near tokens.

Models are usually stretched after training. Put on the three trained models of `everywhere` in `attention`, without a
further step, YaRN has 2.29 bits per byte at 128 bytes, 3.15 at 512 and 3.54 at 2,048, where they have 1.99, 3.33 and
4.84 as they are:
`python -m src.evaluate run=RUN encoding@swap=yarn swap.base=1e6 swap.scaling.factor=16 'lengths=[128,512,2048]'`.""",
        "large models, longer training, windows of other sizes, the linear layers themselves, compressed keys and "
        "values, and whether any pattern finds what is far away",
        ("bits_per_byte@4x", "sliding_bits_per_byte@4x", "bits_per_byte@1x"),
        ("curves_*", "differences_*_4x"),
        _held,
        _own_window,
    ),
}

PAGE = ComparisonPage("model-patterns", INTRODUCTION, PARTS)

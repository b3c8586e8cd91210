"""The text of docs/which-encoding.md around its comparisons: `python docs/make.py --comparison FOLDER ...`."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from pathlib import Path

import pandas as pd

from pages.comparison import (
    ComparisonPage,
    Part,
    means,
    own_window,
    own_window_table,
    results_of,
    scores_of,
    setting,
    verdicts_of,
    with_interval,
)
from poslab.experiments.statistics.difference import difference
from poslab.experiments.statistics.holm import holm
from poslab.experiments.statistics.verdict import ALPHA
from poslab.report.sentences import are, listed
from poslab.report.text_tables import markdown

INTRODUCTION = """\
# Which encoding?

<!-- `python docs/make.py --comparison` makes this page from comparisons. Do not edit it by hand. -->"""


TEXTS = ("short_training", "long_training")
"""Cases of text, of 600 and of 4,000 steps."""

LENGTHS = (128, 512, 2048)
"""The training length of these cases, the one that decides, and the longest one."""

AT_16_TIMES = f"bits_per_byte@{LENGTHS[2]}"

WHERE_TO_USE = """\
Small models and one English document of 465 kB: do not choose the encoding of a large model by them. Large models of
today use rotary with a large base, sliding windows or no positions in some layers, and train on long texts at the end.

Where texts are longer than in training and local context is enough, take rotary in a sliding window of its training
length, 128 bytes, or an encoding that is not worse ([all
figures](#longer-context-next-to-a-window-of-the-training-length)). The list below is of encodings in the same windows,
where rotary is beyond its training length."""

LEARNING_RATE = """\
Heads have 16 channels, and rotary a base of 10,000, so that five of its eight pairs of channels do not complete a turn
within 128 bytes. Only `optimizer.lr` was tuned. Tables, slopes and gates of encodings learn at
`optimizer.encoding_lr_multiplier` times that rate, 5 by default; rotary, ALiBi, sinusoidal and `none` have nothing to
which it applies. The lead of T5 over rotary after 600 steps in windows of 128, {t5:.2f} and {rotary:.2f} bits per byte,
depends on it: with a multiplier of 1, T5 has 2.50. So does the lead of FIRE (2.59), and not that of forgetting (2.33;
all of one seed, the better of two rates). **The decoder of x-transformers, which has no such multiplier, has T5 and
rotary in the opposite order**: T5 2.95, rotary 2.36.

```bash
python -m src.train encoding=t5 optimizer.encoding_lr_multiplier=1 optimizer.lr=8e-3 model.d_model=64 \\
  model.num_layers=2 model.num_heads=4 dataset.sequence_length=128 trainer.max_steps=600 seed=1
```"""

OWN_WINDOW = """\
The control of every claim about longer texts: each encoding in sliding windows of 512 bytes, next to rotary in sliding
windows of its training length, 128 bytes. A window moves by half its length, and only the second half counts, so that
each byte has half a window to a whole one before it. (In windows that follow one another the first bytes of each have
little context, so that longer windows look better for this reason alone.) The gain is the loss at 128 bytes minus the
loss at 2,048: above 0, a longer context helps. Differences are means with 95% intervals for new seeds and new pieces of
the test; the verdicts, but not the intervals, are adjusted by Holm over the rows of a table. The margin is 0.02."""


def _to_take(folder: Path) -> Iterator[str]:
    """Yield which encodings serve texts longer than in training, next to rotary in windows of its training length."""
    of, said = means(folder), verdicts_of(folder)
    frames = {case: own_window(folder, case, "rotary", LENGTHS) for case in TEXTS}
    if not any(frame.empty for frame in frames.values()):
        yield WHERE_TO_USE
    for frame, steps in zip(frames.values(), ("600", "4,000"), strict=True):
        if not frame.empty:
            ahead = list(frame.index[frame["verdict"] == "better"])
            others = frame.head(5).iterrows()
            losses = "; ".join(f"{name} {row[LENGTHS[1]]:.3f}, {row['verdict']}" for name, row in others)
            gain = frame["gain"].map(lambda found: found.mean).max()
            yield (
                f"After {steps} steps rotary has {frame.loc['rotary', LENGTHS[0]]:.3f} bits per byte in such windows, "
                f"and {f'{listed(ahead)} {are(ahead)}' if ahead else 'no encoding is'} better in sliding windows of "
                f"512: {losses}. The largest gain from windows of 2,048 instead of 128 is {round(gain, 3) + 0.0:.3f}."
            )
    longer = said[said["case"].isin(TEXTS) & said["metric"].str.endswith("bits_per_byte@4x")]
    ahead = longer.groupby("encoding", sort=False)["word"].agg(lambda words: (words == "better").all())
    behind = set(said[(said["metric"] == "bits_per_byte@1x") & (said["word"] == "worse")]["encoding"])
    if take := [name for name in ahead[ahead].index if name not in behind]:
        far = of["bits_per_byte@4x", "long_training"]
        yield (
            f"{listed(take)} {are(take)} better in windows of 512 than rotary in the same windows, after 600 steps and "
            "after 4,000, at once and in a sliding window, and not worse in windows of 128."
        )
        yield (
            f"After 4,000 steps they have {far[take].min():.2f} to {far[take].max():.2f} bits per byte in windows of "
            f"512, and rotary {far['rotary']:.2f}."
        )
        if (farther := of.get((AT_16_TIMES, "long_training"))) is not None:
            means_of_all = ", ".join(f"{name} {farther[name]:.2f}" for name in take)
            yield f"In windows of 2,048, of which there are means without a verdict, they have: {means_of_all}."
        if others := [name for name in ahead[ahead].index if name in behind]:
            yield f"Better than rotary in windows of 512 too, but worse in windows of 128: {', '.join(others)}."
    names = ("none", "learned", "sinusoidal", "rotary")
    after = [", ".join(f"{name} {of['bits_per_byte@1x', case, name]:.2f}" for name in names) for case in TEXTS]
    yield (
        "In 600 steps `none` and absolute encodings have not learned yet: bits per byte in windows of 128 are then "
        f"{after[0]}, and after 4,000 steps {after[1]}."
    )


def _controls(folder: Path) -> Iterator[str]:
    """Yield what the models and the data are, and the figures that the means at four times the length do not show."""
    of = means(folder)
    if not (folder / "runs").is_dir():
        return
    yield "### Size, data and learning rate"
    yield "\n".join(f"- {case}: {setting(folder, case, 'rotary')}." for case in TEXTS)
    near = of["bits_per_byte@1x", "short_training"]
    yield LEARNING_RATE.format(t5=near["t5"], rotary=near["rotary"])
    yield from _pairs(folder)
    yield "### Longer context, next to a window of the training length"
    yield OWN_WINDOW
    for case in TEXTS:
        yield f"**{case}**"
        yield own_window_table(own_window(folder, case, "rotary", LENGTHS), "rotary", LENGTHS)
    yield "### Copying by length"
    exact = of.unstack()[lambda frame: frame.index.get_level_values("metric").str.match(r"exact_match@\d+$")]
    exact = exact.xs("copying", level="case").rename(index=lambda metric: int(metric.partition("@")[2])).sort_index().T
    exact = exact.sort_values(exact.columns[-1], ascending=False, kind="stable")
    shown = exact.map(lambda mean: "–" if pd.isna(mean) else f"{mean:.1f}")
    yield markdown(shown.rename_axis(columns=None).rename(columns=str).reset_index())
    yield (
        "Exact copies in per cent, by the number of words; training has at most six. T5's figure is confounded by the "
        "learning rate of its table: [T5's table at other learning rates](#t5s-table-at-other-learning-rates)."
    )


def _pairs(folder: Path) -> Iterator[str]:
    """Yield which pairs of the encodings that do best at the training length differ there, after Holm over all."""
    names = ("rotary", "t5", "kerple_log", "fire", "forgetting", "pope")
    own = {name: scores_of(folder, "long_training", name, "bits_per_byte", LENGTHS[0]) for name in names}
    known = {name: scores for name, scores in own.items() if scores is not None}
    found = {pair: difference(*(known[name] for name in pair), "minimize") for pair in combinations(known, 2)}
    if not found:
        return
    adjusted = holm([one.p_value for one in found.values()])
    differ = [
        f"{one} minus {other} is {with_interval(found[one, other])}, p = {p_value:.1g}"
        for (one, other), p_value in zip(found, adjusted, strict=True)
        if p_value < ALPHA
    ]
    yield (
        f"In windows of {LENGTHS[0]} after 4,000 steps, of the {len(found)} pairs of {listed(list(known))} these "
        f"differ after Holm over all of them: {'; '.join(differ) or 'none'}. The others are inconclusive."
    )


def _spread(folder: Path) -> Iterator[str]:
    """Yield how far differences of one encoding spread over seeds, in pairs and without."""
    results = results_of(folder)
    for metric in ("bits_per_byte@1x", "bits_per_byte@4x"):
        rows = results[results["metric"] == metric]
        if rows.empty:
            continue
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
Five seeds each, three learning rates for each encoding. The models are small: two or three layers of width 64, which
train in minutes on a core. The text of the first two cases is one English document, the Python reference: 465 kB, of
which 387 kB are left without repetitions, 334 kB of them for training.

- **short_training**: text in windows of 128 bytes for 600 steps, read at 1 to 16 times that length (`1x` to `16x`), in
  windows that follow one another, and in a sliding window whose first half only gives context (`sliding_`). After so
  few steps absolute encodings and `none` have not learned yet: what they show there is how slowly they learn. The
  decoder of x-transformers, at the same sizes in a loop of its own (`python benchmarks/learning_speed.py`), agrees on
  that (3.63 bits per byte under none, 3.62 under learned and 3.61 under sinusoidal positions, at the best of three
  learning rates), and not on the order of the others: 2.36 under rotary, 2.75 under ALiBi and 2.95 under T5's bias.
- **long_training**: the same for 4,000 steps. By then absolute encodings have learned; `none` has not, here (3.35) or
  in x-transformers (3.33, with `--steps 4000 --encodings none`).
- **copying**: words to be copied exactly, at most six in training, up to twelve in the test.
- **topics**: news in five classes, at the trained length alone.""",
        "large models, [pretrained models](pretrained-models.md), lengths above 2,048 tokens, "
        "other languages, retrieval from long texts, rotary stretched by a "
        "scaling, and other encodings that are not in the table",
        (
            *("bits_per_byte@4x", "sliding_bits_per_byte@4x", "bits_per_byte@1x"),
            *("exact_match@beyond", "exact_match@trained", "accuracy"),
        ),
        ("curves_*", "differences_*_training_bits_per_byte_4x", "differences_copying_*", "seeds_*_beyond"),
        _to_take,
        _controls,
    ),
    "t5_rate": Part(
        "T5's table at other learning rates",
        """\
T5's bias is a small table, which learns at `optimizer.encoding_lr_multiplier` times the rate of the other weights.
Words to be copied exactly, at most six in training, up to twelve in the test, three seeds: `rate_1` is the rate of the
other weights, and `rate_5` what Poslab does by default, in the study above too.""",
        "other tasks, and other encodings with tables",
        ("exact_match@beyond",),
        ("curves_*", "seeds_*_beyond"),
    ),
    "same_encoding": Part(
        "One encoding under two names",
        """\
How far apart are runs that differ in nothing but rounding? Ten seeds of rotary, beside ten of rotary with a base that
differs by a millionth. A comparison must say "inconclusive" here, or "equivalent".""",
        "chance in other cases than this one",
        ("bits_per_byte@1x", "bits_per_byte@4x"),
        ("differences_*", "seeds_*"),
        _spread,
    ),
}

PAGE = ComparisonPage("which-encoding", INTRODUCTION, PARTS)

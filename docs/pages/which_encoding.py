"""The text of docs/which-encoding.md around its comparisons: `python docs/make.py --comparison FOLDER ...`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pages.comparison import ComparisonPage, Part, means, results_of, verdicts_of
from poslab.report.sentences import listed

INTRODUCTION = """\
# Which encoding?

<!-- `python docs/make.py --comparison` makes this page from comparisons. Do not edit it by hand. -->"""


TEXTS = ("short_training", "long_training")
"""Cases of text, of 600 and of 4,000 steps."""

AT_16_TIMES = "bits_per_byte@2048"


def _to_take(folder: Path) -> Iterator[str]:
    """Yield which encodings serve texts longer than in training, and which have learned at the trained length."""
    of, said = means(folder), verdicts_of(folder)
    longer = said[said["case"].isin(TEXTS) & said["metric"].str.endswith("bits_per_byte@4x")]
    ahead = longer.groupby("encoding", sort=False)["word"].agg(lambda words: (words == "better").all())
    behind = set(said[(said["metric"] == "bits_per_byte@1x") & (said["word"] == "worse")]["encoding"])
    if take := [name for name in ahead[ahead].index if name not in behind]:
        far = of["bits_per_byte@4x", "long_training"]
        yield (
            f"Where texts may be longer than in training, take {listed(take, 'or')}. Models that learned from windows "
            "of 128 bytes read windows of 512: with each of these better than with rotary, after 600 steps of training "
            "and after 4,000, at once and in a sliding window, and not worse in windows of 128."
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
Five seeds each, tuned alike. The models are small: two or three layers of width 64, which train in minutes on a core.
Take orders between encodings from here, not values.

- **short_training**: text in windows of 128 bytes for 600 steps, read at 1 to 16 times that length (`1x` to `16x`), in
  windows that follow one another, and in a sliding window whose first half only gives context (`sliding_`). After so
  few steps absolute encodings and `none` have not learned yet: what they show there is how slowly they learn. This is
  not of our making: the decoder of x-transformers, at the same sizes in a loop of its own
  (`python benchmarks/learning_speed.py`), has 3.63 bits per byte under none, 3.62 under learned and 3.61 under
  sinusoidal positions then, at the best of three learning rates; 2.36 under rotary, 2.75 under ALiBi and 2.95 under
  T5's bias.
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
differs by a millionth. A comparison must say "not told apart" here, or "equal".""",
        "chance in other cases than this one",
        ("bits_per_byte@1x", "bits_per_byte@4x"),
        ("differences_*", "seeds_*"),
        _spread,
    ),
}

PAGE = ComparisonPage("which-encoding", INTRODUCTION, PARTS)

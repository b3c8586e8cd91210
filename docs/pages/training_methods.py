"""The text of docs/training-methods.md around its comparisons: `python docs/make.py --comparison FOLDER ...`."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from functools import partial
from itertools import combinations
from pathlib import Path

import pandas as pd
from scipy import stats

from pages.comparison import ComparisonPage, Part, means, results_of
from poslab.report.sentences import listed
from poslab.report.text_tables import markdown

INTRODUCTION = """\
# Training methods and encodings, measured

<!-- `python docs/make.py --comparison` makes this page from comparisons. Do not edit it by hand. -->

Does the choice of an encoding change with the way in which a model is trained?
[Training](guides/training.md) has the commands.

Where T5 has the lowest bits per byte, its table learns at five times the rate of the other weights, which rotary cannot
use: [without that](which-encoding.md#size-data-and-learning-rate) T5 has 2.50 where rotary has 2.51.
Rotary beyond its training length is [better read in a sliding
window](which-encoding.md#longer-context-next-to-a-window-of-the-training-length)."""

Changes = Mapping[str, tuple[str, str]]
"""From one case to another, by the heading of its column."""


def _effects(metric: str, changes: Changes, folder: Path) -> dict[str, pd.DataFrame]:
    """Return what each change does under each encoding, over runs of the same seed.

    A frame has a row for each encoding, with columns `mean`, `low` and `high`, the ends of the 95 % interval (t), which
    are not finite where fewer than two seeds are known. Changes between cases without runs are left out.
    """
    results = results_of(folder)
    of_runs = results[results["metric"] == metric].set_index(["case", "encoding", "seed"])["value"].unstack("case")
    names, effects = list(dict.fromkeys(results["encoding"])), {}
    for heading, (begun, to) in changes.items():
        if {begun, to} <= set(of_runs):
            by_encoding = (of_runs[to] - of_runs[begun]).dropna().groupby("encoding")
            found = {str(name): _mean_and_interval(differences) for name, differences in by_encoding}
            frame = pd.DataFrame.from_dict(found, orient="index", columns=["mean", "low", "high"])
            effects[heading] = frame.reindex(names)
    return effects


def _mean_and_interval(differences: pd.Series) -> tuple[float, float, float]:
    if len(differences) < 2:
        return differences.mean(), math.nan, math.nan
    mean, error = differences.mean(), stats.sem(differences)
    return mean, *(stats.t.interval(0.95, len(differences) - 1, mean, error) if error else (mean, mean))


def _changes(title: str, metrics: Mapping[str, int], changes: Changes, folder: Path) -> Iterator[str]:
    """Yield tables of what each change does under each encoding.

    Args:
        title: of the tables.
        metrics: their tags, with the decimals of their cells.
        changes: columns.
        folder: of the comparison.
    """
    yield f"### {title}"
    yield "Mean difference of runs with the same seed and its 95 % interval (t), which few seeds leave wide."
    for metric, decimals in metrics.items():
        if effects := _effects(metric, changes, folder):
            cells = {name: [_cell(row, decimals) for row in own.to_dict("records")] for name, own in effects.items()}
            yield f"**{metric}**"
            yield markdown(pd.DataFrame({"encoding": next(iter(effects.values())).index, **cells}))


def _cell(row: Mapping[str, float], decimals: int) -> str:
    if math.isnan(row["low"]):
        return "–"
    return f"{row['mean']:+.{decimals}f} ({row['low']:+.{decimals}f} to {row['high']:+.{decimals}f})"


def _clear(what: str, metric: str, decimals: int, changes: Changes, folder: Path) -> Iterator[str]:
    """Yield the encodings under which each change has an interval without 0, or the range of means where none has."""
    said, effects = [], _effects(metric, changes, folder)
    for heading, effect in effects.items():
        clear = effect[(effect["low"] > 0) | (effect["high"] < 0)]
        found = [f"{name} ({mean:+.{decimals}f})" for name, mean in clear["mean"].items()]
        ends = f"{effect['mean'].min():+.{decimals}f} to {effect['mean'].max():+.{decimals}f}"
        said.append(f"{heading}, under {listed(found) if found else f'no encoding (means {ends})'}")
    if said:
        count = sum(effect["low"].notna().sum() for effect in effects.values())
        yield (
            f"Of {count} changes of {what}, these have a 95 % interval without 0, not corrected for their number: "
            f"{'; '.join(said)}."
        )


def _orders(folder: Path) -> Iterator[str]:
    """Yield how alike the orders of encodings are under each two optimizers."""
    of, cases = means(folder), list(dict.fromkeys(results_of(folder)["case"]))
    for metric, where in {"bits_per_byte@1x": "at the trained length", "bits_per_byte@4x": "at four times it"}.items():
        by_case = of[metric].unstack("case")[cases].dropna()
        taus = [
            f"{stats.kendalltau(by_case[one], by_case[other]).statistic:.2f} for {one} and {other}"
            for one, other in combinations(cases, 2)
        ]
        yield f"Kendall's tau of the orders of {len(by_case)} encodings {where} is {listed(taus)}; 1 is the same order."


def _lost(folder: Path) -> Iterator[str]:
    """Yield the range over encodings of what privacy costs."""
    said = [
        f"{-effect['mean'].max():.1f} to {-effect['mean'].min():.1f} at {heading}"
        for heading, effect in _effects("accuracy", PRIVACY, folder).items()
    ]
    if said:
        yield f"Privacy costs these points of accuracy, by encoding: {listed(said)}."


PRIVACY: Changes = {f"epsilon {epsilon}": ("without_privacy", f"epsilon_{epsilon}") for epsilon in (8, 3, 1)}

TEACHING: Changes = {
    "logits": ("without_teacher", "logits"),
    "relations": ("without_teacher", "relations"),
    "relations after rotation": ("without_teacher", "relations_after_rotation"),
}

TRANSFER: Changes = {
    "tweets after films": ("tweets", "tweets_after_films"),
    "the same with a frozen encoding": ("tweets", "tweets_after_films_with_a_frozen_encoding"),
    "tweets after films read under rotary": ("tweets", "tweets_after_films_under_rotary"),
    "tweets after documentation": ("tweets", "tweets_after_docs"),
    "films after tweets": ("films", "films_after_tweets_after_films"),
}


PARTS = {
    "private": Part(
        "The cost of privacy",
        """\
Topics of news under DP-SGD: each article is private, at three epsilons (delta 1e-5) and without privacy. Decoders of
two layers of width 64 read 64 tokens and take 100 steps of 128 articles; each encoding and case has a tuned rate. The
test has 212 articles of five topics: guessing is right for about a fifth, and at epsilon 1 some models are hardly
better.""",
        "large batches and long training, where privacy costs less, and pretrained models",
        ("accuracy",),
        ("differences_*",),
        _lost,
        partial(_changes, "Accuracy that privacy takes away", {"accuracy": 1}, PRIVACY),
    ),
    "optimizers": Part(
        "Another optimizer",
        """\
Text in windows of 128 bytes, read at once and four times that length, under AdamW, Muon and Lion, each with a tuned
rate. Decoders of two layers of width 64 take 600 steps of eight windows, from which Lion learns little: its order says
less than the others.""",
        "large models, long training, and large batches, with which Lion gains (Chen et al. 2023)",
        ("bits_per_byte@4x", "bits_per_byte@1x"),
        ("curves_*[!g]_bits_per_byte", "differences_*"),
        _orders,
    ),
    "distillation": Part(
        "A rotary teacher",
        """\
A rotary decoder of the default size teaches decoders of two layers of width 64, which have other positions or none: by
its logits, or by relations of its queries, keys and values (MiniLMv2), before or after they are rotated.
`without_teacher` has the same 600 steps.""",
        "large teachers, teachers of another kind, and long training",
        ("bits_per_byte@1x", "bits_per_byte@4x", "sliding_bits_per_byte@4x"),
        ("curves_*[!g]_bits_per_byte", "differences_*[!g]_bits_per_byte_*"),
        partial(
            _clear, "bits per byte at the trained length, of which less is better", "bits_per_byte@1x", 3, TEACHING
        ),
        partial(_changes, "Change by a teacher", {"bits_per_byte@1x": 3, "bits_per_byte@4x": 3}, TEACHING),
    ),
    "transfer": Part(
        "Another domain",
        """\
Sentiment of film reviews, then of tweets, and films again without a further step: what serves, and what is left? Cases
begin with the weights of another one (`tweets_after_films`), with a frozen encoding, or under rotary, and `docs` is
text of the Python documentation. All read the tokens of films. Decoders of two layers of width 64 take 400 steps.
`none`, rotary and ALiBi have nothing to freeze.""",
        "large pretrained models ([pretrained models](pretrained-models.md)), and other domains",
        ("accuracy", "bits_per_byte@1x"),
        ("differences_*",),
        partial(_clear, "accuracy, in points", "accuracy", 1, TRANSFER),
        partial(_changes, "Gain from the first training, and its loss by the second", {"accuracy": 1}, TRANSFER),
    ),
}

PAGE = ComparisonPage("training-methods", INTRODUCTION, PARTS)

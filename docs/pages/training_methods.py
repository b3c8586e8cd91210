"""The text of docs/training-methods.md around its comparisons: `python docs/make.py --comparison FOLDER ...`."""

from __future__ import annotations

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

`python docs/make.py --comparison` makes this page from comparisons. Do not edit it by hand.

Does the choice of an encoding change with the way in which a model is trained?
[Training](guides/training.md) has the commands."""

Changes = Mapping[str, tuple[str, str]]
"""From one case to another, by the heading of its column."""


def _changes(title: str, metrics: Mapping[str, int], changes: Changes, folder: Path) -> Iterator[str]:
    """Yield tables of what changes from one case to another under each encoding, over runs of the same seed.

    Args:
        title: of the tables.
        metrics: their tags, with the decimals of their cells.
        changes: columns.
        folder: of the comparison.
    """
    results = results_of(folder)
    yield f"### {title}"
    yield "Mean difference of runs with the same seed and its 95 % interval (t), which few seeds leave wide."
    for metric, decimals in metrics.items():
        of_runs = results[results["metric"] == metric].set_index(["case", "encoding", "seed"])["value"].unstack("case")
        columns = {
            heading: (of_runs[to] - of_runs[begun]).groupby("encoding", sort=False).agg(partial(_interval, decimals))
            for heading, (begun, to) in changes.items()
            if {begun, to} <= set(of_runs)
        }
        if columns:
            yield f"**{metric}**"
            yield markdown(pd.DataFrame(columns).loc[list(dict.fromkeys(results["encoding"]))].reset_index())


def _interval(decimals: int, differences: pd.Series) -> str:
    """Return the mean of differences and its 95 % interval, or a dash where fewer than two are known."""
    known = differences.dropna()
    if len(known) < 2:
        return "–"
    mean, error = known.mean(), stats.sem(known)
    low, high = stats.t.interval(0.95, len(known) - 1, mean, error) if error else (mean, mean)
    return f"{mean:+.{decimals}f} ({low:+.{decimals}f} to {high:+.{decimals}f})"


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
    """Yield the range of what privacy costs."""
    of = means(folder)["accuracy"].unstack("case")
    for epsilon in (8, 3, 1):
        cost = (of["without_privacy"] - of[f"epsilon_{epsilon}"]).dropna().sort_values()
        if len(cost):
            yield (
                f"At epsilon {epsilon} the accuracy is {cost.iloc[0]:.1f} points lower under {cost.index[0]}, the "
                f"least, to {cost.iloc[-1]:.1f} under {cost.index[-1]}."
            )


def _taught(folder: Path) -> Iterator[str]:
    """Yield what each way of teaching changes at the trained length."""
    of = means(folder)["bits_per_byte@1x"].unstack("case")
    changes = {way: (of[to] - of[begun]).dropna().sort_values() for way, (begun, to) in TEACHING.items() if to in of}
    ranges = [
        f"{way} {change.iloc[0]:+.3f} (under {change.index[0]}) to {change.iloc[-1]:+.3f} (under {change.index[-1]})"
        for way, change in changes.items()
    ]
    yield f"Bits per byte at the trained length change, by what is learned of the teacher: {listed(ranges)}."


def _kept(folder: Path) -> Iterator[str]:
    """Yield what the first training adds to the second, and what the second takes from the first."""
    of = means(folder)["accuracy"].unstack("case")
    added = (of["tweets_after_films"] - of["tweets"]).dropna()
    lost = (of["films"] - of["films_after_tweets_after_films"]).dropna()
    if len(added) and len(lost):
        yield (
            f"After films, tweets have {added.min():+.1f} to {added.max():+.1f} points of accuracy by encoding; after "
            f"tweets, {lost.min():.1f} to {lost.max():.1f} points of films are lost."
        )


PRIVACY: Changes = {f"epsilon {epsilon}": ("without_privacy", f"epsilon_{epsilon}") for epsilon in (8, 3, 1)}

TEACHING: Changes = {
    "logits": ("without_teacher", "logits"),
    "relations": ("without_teacher", "relations"),
    "relations after rotation": ("without_teacher", "relations_after_rotation"),
}

TRANSFER: Changes = {
    "tweets: after films": ("tweets", "tweets_after_films"),
    "with a frozen encoding": ("tweets", "tweets_after_films_with_a_frozen_encoding"),
    "after films under rotary": ("tweets", "tweets_after_films_under_rotary"),
    "after documentation": ("tweets", "tweets_after_docs"),
    "films: after tweets": ("films", "films_after_tweets_after_films"),
}


PARTS = {
    "private": Part(
        "What privacy costs",
        """\
Topics of news under DP-SGD: each article is private, at three epsilons (delta 1e-5) and without privacy. Decoders of
two layers of width 64 read 64 tokens and take 100 steps of 128 articles; each encoding and case has a tuned rate.""",
        "large batches and long training, where privacy costs less, and pretrained models",
        ("accuracy",),
        ("differences_*",),
        _lost,
        partial(_changes, "What privacy takes away", {"accuracy": 1}, PRIVACY),
    ),
    "optimizers": Part(
        "Another optimizer",
        """\
Text in windows of 128 bytes, read at once and four times that length, under AdamW, Muon and Lion, each with a tuned
rate. Decoders of two layers of width 64 take 600 steps of eight windows.""",
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
        _taught,
        partial(_changes, "What a teacher adds", {"bits_per_byte@1x": 3, "bits_per_byte@4x": 3}, TEACHING),
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
        _kept,
        partial(_changes, "What the first training adds, and what is left of it", {"accuracy": 1}, TRANSFER),
    ),
}

PAGE = ComparisonPage("training-methods", INTRODUCTION, PARTS)

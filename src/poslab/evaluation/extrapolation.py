"""Prediction of text in windows of other lengths than in training, and its plots.

Dimension letter: N tokens of the text.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from textwrap import fill
from typing import NamedTuple

import numpy as np
import pandas as pd
from torch import nn

from poslab.configuration.labels import written
from poslab.evaluation.by_length import lines_by_length
from poslab.evaluation.scores.intervals import MIN_ITEMS, ratio_interval
from poslab.evaluation.scores.items import ItemScores
from poslab.evaluation.scores.tokens import TextWindows, TokenScores, context_gain, sampled_units, score_tokens
from poslab.evaluation.settings import StepRunner, at_once
from poslab.report import figures

NON_OVERLAPPING, SLIDING = "non-overlapping", "sliding"
UNIGRAM, NEAR, FAR = "unigram", "near", "far"

FEW_BEFORE = 8  # most tokens before tokens of `NEAR`, in windows of at least twice as many

BINS_PER_OCTAVE = 2

MIN_TOKENS = 30
"""Fewest tokens whose mean loss is drawn: the mean of fewer depends more on the tokens than on their position."""

MIN_BITS, MIN_NATS = 0.05, 0.05
"""Least spans of the axes of bits per byte and of loss, so that noise does not look like a steep gain."""

SOURCE = "Press, Smith, Lewis, Train Short, Test Long (ICLR 2022), section 2 and appendix B"


class Extrapolation(NamedTuple):
    """Scores of a text in windows of several lengths.

    Args:
        by_length: a row for each length and protocol, with a 95% bootstrap interval over documents (if there are fewer
            than 10, over pieces of 1,024 tokens; `pieces` is their number).
        by_position: a row for each of these and each range of contexts, with the mean loss of the tokens that have that
            many tokens before them.
        items: bits per byte of the documents or pieces, by protocol and length; under `UNIGRAM` from the
            frequencies of tokens, which know no context, under `NEAR` of tokens with at most `FEW_BEFORE` tokens
            before them, and under `FAR` of tokens with more than half of a window, all of non-overlapping windows.
            Under `CONTEXT_GAIN` the gain of context of each length beyond the training length, if that is one of the
            lengths, unless all documents are shorter than half of it.
    """

    by_length: pd.DataFrame
    by_position: pd.DataFrame
    items: dict[tuple[str, int], ItemScores]


def extrapolate(
    model: nn.Module,
    tokens: np.ndarray,
    lengths: Sequence[int],
    training_length: int,
    end_id: int,
    bytes_per_token: float,
    stride: int | None = None,
    keep_documents_apart: bool = False,
    seed: int = 1,
    unigram: np.ndarray | None = None,
    step: StepRunner = at_once,
    sizes: np.ndarray | None = None,
) -> Extrapolation:
    """Score a text in windows of several lengths under both protocols.

    Args:
        model: tokens in, logits out. Beyond its `max_length`, if it has one, values are missing.
        tokens: (N,) token ids of the text, more than the longest of the lengths.
        lengths: window lengths in tokens.
        training_length: tokens of a training window.
        end_id: token that ends a document.
        bytes_per_token: bytes of text per predicted token, to convert nats per token into bits per byte.
        stride: tokens between the starts of sliding windows; None is half of the window.
        keep_documents_apart: whether no token of another document is seen or predicted.
        seed: of the bootstrap.
        unigram: (V,) nats of each token by only its frequency; None leaves these items out.
        step: of a `Progress`, each of whose steps is one kind of windows with `work_of` it.
        sizes: (N - 1,) bytes of each token but the first, for the gain of context; None is `bytes_per_token` of each.

    Raises:
        ValueError: for a length that the text does not fill, or a stride beyond the shortest window.
    """
    for length in lengths:
        if not 1 <= length < len(tokens):
            raise ValueError(
                f"lengths must lie between 1 and {len(tokens) - 1:,}, which the text fills, got {length:,}"
            )
    end = getattr(model, "max_length", None)
    units, bits = sampled_units(tokens, end_id), 1 / math.log(2) / bytes_per_token
    by_length, by_position, items = [], [], {}
    sizes = np.full(len(tokens) - 1, bytes_per_token) if sizes is None else sizes
    known = trained = None
    for protocol, windows in windows_of(len(tokens), lengths, stride):
        length = windows.length
        row = {"protocol": protocol, "length": length, "multiple": length / training_length}
        row |= {"stride": windows.stride, "windows": len(windows)}
        if end is not None and length > end:
            by_length.append(row)
            continue
        boundary = end_id if keep_documents_apart else None
        known = None if protocol == NON_OVERLAPPING else known
        label, work = f"{protocol} windows of {length:,} tokens", work_of(model, protocol, windows)
        read = partial(score_tokens, model, tokens, windows, boundary, known=known)
        scores = known = TokenScores.of(step(label, work, lambda: read().numbers))  # noqa: B023
        sums, counts = scores.by_unit(units)
        by_length.append(row | _summary(scores, sums, counts, training_length, bits, seed))
        by_position += [row | bin_ for bin_ in _by_context(scores, length)]
        items[protocol, length] = ItemScores("bits_per_byte", length, bits * sums, counts, "the same text")
        if protocol == NON_OVERLAPPING:
            near, far = scores.context <= min(FEW_BEFORE, length // 2), 2 * scores.context > length
            controls = {NEAR: scores.only(near), FAR: scores.only(far)}
            if unigram is not None:
                controls[UNIGRAM] = replace(scores, loss=unigram[tokens[1:]])
            for control, of_control in controls.items():
                sums, counts = of_control.by_unit(units, bits)
                items[control, length] = replace(items[protocol, length], sums=sums, counts=counts)
        elif length == training_length:
            trained = (length, scores)
        elif trained is not None:
            gain = context_gain(tokens, end_id, sizes, trained, (length, scores), "the same text")
            items |= {} if gain is None else {(gain.metric, length): gain}
    tables = pd.DataFrame(by_length, columns=[*row, *SUMMARY]), pd.DataFrame(by_position, columns=[*row, *BINS])
    return Extrapolation(*tables, items)


def windows_of(num_tokens: int, lengths: Sequence[int], stride: int | None) -> Iterator[tuple[str, TextWindows]]:
    """Yield the windows of each length under both protocols, the shortest first, as `extrapolate` reads them."""
    for length in sorted(set(lengths)):
        step = max(1, length // 2) if stride is None else stride
        for protocol, hop in ((NON_OVERLAPPING, length), (SLIDING, step)):
            yield protocol, TextWindows(num_tokens, length, hop)


def work_of(model: nn.Module, protocol: str, windows: TextWindows) -> float:
    """Return how much work windows are for a model; 0 beyond its end. Sliding ones follow the others, and share some.

    A token takes 12 M^2 products of a layer of width M, and 2 T M of attention to T tokens (about 6 M to T).
    """
    end, width = getattr(model, "max_length", None), getattr(getattr(model, "embedding", None), "embedding_dim", 64)
    if end is not None and windows.length > end:
        return 0.0
    number = sum(map(len, windows.numbers(1, only_unknown=protocol == SLIDING)))
    return number * windows.length * (1 + windows.length / (6 * width))


SUMMARY = (
    *("bits_per_byte", "bits_low", "bits_high", "loss", "loss_low", "loss_high", "perplexity", "accuracy"),
    *("early_loss", "tail_loss", "tokens", "pieces"),
)
"""Columns of the table by length. `early_loss` is of tokens with less than half of a training window before them,
`tail_loss` of tokens with more than a whole one; intervals are over `pieces`."""

BINS = ("context_from", "context_to", "tokens", "loss")


def _summary(
    scores: TokenScores, sums: np.ndarray, counts: np.ndarray, training_length: int, bits: float, seed: int
) -> dict[str, float]:
    known = scores.predicted
    loss, context = scores.loss[known].astype(np.float64), scores.context[known]
    mean = loss.mean()
    low, high = ratio_interval(sums, counts, seed=seed)
    early, tail = loss[context < training_length / 2], loss[context > training_length]
    return {
        "tokens": len(loss),
        "loss": mean,
        "loss_low": low,
        "loss_high": high,
        "perplexity": math.exp(min(mean, 700.0)),
        "bits_per_byte": mean * bits,
        "bits_low": low * bits,
        "bits_high": high * bits,
        "pieces": np.count_nonzero(counts),
        "accuracy": 100 * scores.correct[known].mean(),
        "early_loss": early.mean() if len(early) else math.nan,
        "tail_loss": tail.mean() if len(tail) else math.nan,
    }


def _by_context(scores: TokenScores, length: int) -> Iterator[dict[str, float]]:
    """Yield the mean losses of the tokens with 1, 2, 3, 4 to 5, 6 to 7, 8 to 10 ... tokens before them."""
    known = scores.predicted
    loss, context = scores.loss[known].astype(np.float64), scores.context[known]
    octaves = math.ceil(BINS_PER_OCTAVE * math.log2(length)) + 1
    edges = np.unique(np.round(2 ** (np.arange(octaves + 1) / BINS_PER_OCTAVE)).astype(np.int64))
    edges = np.append(edges[edges < max(2, length)], length + 1)
    bins = np.searchsorted(edges, context, side="right") - 1
    counts = np.bincount(bins, minlength=len(edges) - 1)
    sums = np.bincount(bins, loss, minlength=len(edges) - 1)
    for first, last, count, total in zip(edges[:-1], edges[1:] - 1, counts, sums, strict=True):
        if count:
            yield {"context_from": int(first), "context_to": int(last), "tokens": int(count), "loss": total / count}


def extrapolation_figures(
    by_length: Mapping[str, pd.DataFrame], by_position: Mapping[str, pd.DataFrame], training_lengths: Mapping[str, int]
) -> list[figures.ReportFigure]:
    """Return plots and a table of the two tables of `extrapolate`, by the name of the model.

    Training lengths are tokens of a training window, here and below.
    """
    together = pd.concat(by_length, names=["model"]).reset_index("model")
    several = together["length"].nunique() > 1
    return [
        *([bits_by_length(together, training_lengths)] if several else []),
        loss_by_context(pd.concat(by_position, names=["model"]).reset_index("model"), training_lengths),
        figures.Table(
            name="per_length",
            title="Every length",
            caption="Windows move by their stride, and predict so many tokens together. "
            "Low and high are a 95% bootstrap interval over documents (pieces is their number), or over "
            "pieces of 1,024 tokens if there are fewer than 10 documents. Early loss is of tokens with less than "
            "half a training window before them (in sliding windows, tokens of only the first one), tail loss of "
            "tokens with more than a whole one. Dashes: a length beyond the end of the encoding, intervals of fewer "
            f"than {MIN_ITEMS} documents or pieces, a tail that no token has, and a loss that is not a number.",
            source=SOURCE,
            frame=together,
        ),
    ]


def bits_by_length(together: pd.DataFrame, training_lengths: Mapping[str, int]) -> figures.Plot:
    """Draw bits per byte over the window length, under either protocol, from tables with a column `model`."""
    figure = lines_by_length(
        together.assign(value=together["bits_per_byte"], low=together["bits_low"], high=together["bits_high"]),
        training_lengths,
        by="protocol",
        titles={protocol: f"{protocol} windows" for protocol in (NON_OVERLAPPING, SLIDING)},
        xlabel="window length (tokens)",
        ylabel="bits per byte",
        least=dict.fromkeys((NON_OVERLAPPING, SLIDING), MIN_BITS),
        sharey=True,
    )
    return figures.Plot(
        name="bits_by_length",
        title="Prediction beyond the training length",
        caption="Lower is better; a line that stays flat to the right of its dotted training length belongs to a "
        f"model that is as good on longer texts as at its training length. Shaded: 95% bootstrap "
        f"interval over documents or pieces of a document, with at least {MIN_ITEMS} of them.",
        source=SOURCE,
        figure=figure,
    )


def loss_by_context(together: pd.DataFrame, training_lengths: Mapping[str, int]) -> figures.Plot:
    """Draw the loss of a token over the number of tokens before it, from tables by position with a column `model`."""
    rows = together[together["protocol"] == NON_OVERLAPPING]
    models = list(rows["model"].unique())
    columns, labels = min(2, max(1, len(models))), {"xlabel": "tokens before it", "ylabel": "loss (nats)"}
    figure, panels = figures.panel_grid(
        len(models), columns, figures.WIDTH, 2.3, margin=0.9, sharex=True, sharey=True, **labels
    )
    lengths = sorted(set(rows["length"]))
    for panel, model in zip(panels.flat, models, strict=False):
        for number, length in enumerate(lengths):
            bins = rows[(rows["model"] == model) & (rows["length"] == length)]
            middle = (bins["context_from"] * bins["context_to"]) ** 0.5
            loss = bins["loss"].where(bins["tokens"] >= MIN_TOKENS)
            panel.plot(
                middle, loss, linewidth=1.2, label=f"{length:,}", **figures.without_marker(figures.style(number))
            )
        panel.set_xscale("log", base=2)
        panel.xaxis.set_major_formatter("{x:,.0f}")
        panel.axvline(training_lengths[model], color="0.6", linestyle=":")
        panel.set_title(fill(written(str(model)), 40 // columns), fontsize="medium")
    figures.widen(panels[0, 0], MIN_NATS)
    handles, names = panels.flat[0].get_legend_handles_labels()
    ncols = figures.legend_columns(names, figures.WIDTH)
    figure.legend(handles, names, title="window", loc="outside lower center", ncols=ncols, frameon=False)
    return figures.Plot(
        name="loss_by_context",
        title="Loss by position in the window",
        caption="Each line is one length of non-overlapping windows: it falls while more context helps, and rises "
        "where a model meets distances that it has not learned; the dotted line is the training length. Means of fewer "
        f"than {MIN_TOKENS} tokens are left out.",
        source="Press et al., appendix B: non-overlapping windows raise the loss, since the tokens at their beginning "
        "see little context",
        figure=figure,
    )

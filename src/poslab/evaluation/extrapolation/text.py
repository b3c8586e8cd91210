"""Prediction of text in windows of other lengths than those of training.

Dimension letter: N tokens of the text.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from torch import nn

from poslab.evaluation.progress import Step, at_once
from poslab.evaluation.scores.bootstrap import ratio_interval
from poslab.evaluation.scores.items import ItemScores
from poslab.evaluation.scores.tokens import TokenScores, score_tokens
from poslab.evaluation.scores.windows import Windows

NON_OVERLAPPING, SLIDING = "non-overlapping", "sliding"
UNIGRAM, NEAR, FAR = "unigram", "near", "far"

FEW_BEFORE = 8
"""Most tokens before those of `NEAR`, in windows of at least twice as many."""

BINS_PER_OCTAVE = 2

MIN_DOCUMENTS, PIECE = 10, 1024


def sampled_units(tokens: np.ndarray, end_id: int) -> np.ndarray:
    """Return the index of the document of each target, (N - 1,); the end of a document belongs to it.

    A text of few documents is split into pieces of `PIECE` tokens.
    """
    documents = np.cumsum(tokens == end_id)[:-1]
    if documents[-1] + 1 >= MIN_DOCUMENTS:
        return documents
    pieces = np.arange(len(documents)) // PIECE
    return np.unique(np.stack([documents, pieces]), axis=1, return_inverse=True)[1].ravel()


class Extrapolation(NamedTuple):
    """Figures of a text in windows of several lengths.

    Args:
        by_length: a row for each length and protocol, with a 95 % bootstrap interval over documents (if there are fewer
            than 10, over pieces of 1,024 tokens; `pieces` is their number).
        by_position: a row for each of these and each range of contexts, with the mean loss of the tokens that have that
            many tokens before them.
        items: bits per byte of the documents or pieces, by protocol and length; under `UNIGRAM` those of the
            frequencies of tokens, which know no context, under `NEAR` those of tokens with at most `FEW_BEFORE` tokens
            before them, and under `FAR` those with more than half of a window, all of non-overlapping windows.
    """

    by_length: pd.DataFrame
    by_position: pd.DataFrame
    items: dict[tuple[str, int], ItemScores]


def extrapolation(*arguments: Any, **named: Any) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the two tables of `extrapolate`, whose arguments it has."""
    found = extrapolate(*arguments, **named)
    return found.by_length, found.by_position


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
    step: Step = at_once,
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
        unigram: (V,) nats of each token by its frequency alone; None leaves these items out.
        step: of a `Progress`, each of whose steps is one kind of windows with `work_of` it.

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
    for protocol, windows in windows_of(len(tokens), lengths, stride):
        length = windows.length
        row = {"protocol": protocol, "length": length, "multiple": length / training_length}
        row |= {"stride": windows.stride, "windows": len(windows)}
        if end is not None and length > end:
            by_length.append(row)
            continue
        score = partial(_numbers, model, tokens, windows, end_id if keep_documents_apart else None)
        scores = TokenScores.of(step(f"{protocol} windows of {length:,} tokens", work_of(model, windows), score))
        sums, counts = scores.by_unit(units)
        by_length.append(row | _summary(scores, sums, counts, training_length, bits, seed))
        by_position += [row | bin_ for bin_ in _by_context(scores, length)]
        items[protocol, length] = ItemScores("bits_per_byte", length, bits * sums, counts, "the same text")
        if protocol == NON_OVERLAPPING:
            near, far = scores.context <= min(FEW_BEFORE, length // 2), 2 * scores.context > length
            controls = {NEAR: scores.only(near), FAR: scores.only(far)}
            if unigram is not None:
                controls[UNIGRAM] = replace(scores, loss=unigram[tokens[1:]])
            for control, own in controls.items():
                sums, counts = own.by_unit(units, bits)
                items[control, length] = replace(items[protocol, length], sums=sums, counts=counts)
    tables = pd.DataFrame(by_length, columns=[*row, *SUMMARY]), pd.DataFrame(by_position, columns=[*row, *BINS])
    return Extrapolation(*tables, items)


def _numbers(model: nn.Module, tokens: np.ndarray, windows: Windows, boundary: int | None) -> np.ndarray:
    return score_tokens(model, tokens, windows, boundary).numbers


def windows_of(num_tokens: int, lengths: Sequence[int], stride: int | None) -> Iterator[tuple[str, Windows]]:
    """Yield the windows of each length under both protocols, the shortest first, as `extrapolate` reads them."""
    for length in sorted(set(lengths)):
        step = max(1, length // 2) if stride is None else stride
        for protocol, hop in ((NON_OVERLAPPING, length), (SLIDING, step)):
            yield protocol, Windows(num_tokens, length, hop)


def work_of(model: nn.Module, windows: Windows) -> float:
    """Return how much work windows are for a model; 0 beyond its end.

    A token takes 12 M^2 products of a layer of width M, and 2 T M of attention to T tokens (about 6 M to T).
    """
    end, width = getattr(model, "max_length", None), getattr(getattr(model, "embedding", None), "embedding_dim", 64)
    if end is not None and windows.length > end:
        return 0.0
    return len(windows) * windows.length * (1 + windows.length / (6 * width))


SUMMARY = (
    *("bits_per_byte", "bits_low", "bits_high", "loss", "loss_low", "loss_high", "perplexity", "accuracy"),
    *("early_loss", "tail_loss", "tokens", "pieces"),
)
"""Columns of the table by length. `early_loss` is that of tokens with less than half of a training window before them,
`tail_loss` that of tokens with more than a whole one; intervals are over `pieces`."""

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
    place = np.searchsorted(edges, context, side="right") - 1
    counts = np.bincount(place, minlength=len(edges) - 1)
    sums = np.bincount(place, loss, minlength=len(edges) - 1)
    for first, last, count, total in zip(edges[:-1], edges[1:] - 1, counts, sums, strict=True):
        if count:
            yield {"context_from": int(first), "context_to": int(last), "tokens": int(count), "loss": total / count}

"""Loss on the tokens of long texts that a long context helps to predict, and by position (LongPPL).

N windows, T tokens.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from poslab.data.text_files import read
from poslab.evaluation.benchmarks.tasks import Benchmark, ItemMetric
from poslab.evaluation.settings import StepRunner
from poslab.io.files import files_of, patterns_of, require_content

NAME = "longppl"
MIN_GAIN, MIN_LOG_P = 2.0, -2.0
"""Nats that a key token gains by the long context, and its least log probability there: alpha and beta of the paper."""

SHORT, SHARE, STRIDES = 4096, 4, 4
"""Tokens of the short context as in the paper, but at most a quarter of the window; and its steps."""

FIRST_POSITION = 16
"""End of the first range of positions; each of the others is twice as long."""

ROWS_AT_ONCE = 1024
"""Tokens whose logits are converted at once."""

KeyTokens = Callable[..., np.ndarray]
"""Makes the mask of the key tokens with a step runner; of the first windows, if it is called with their number, too."""


class LongText(Benchmark):
    """Windows of long texts, read token by token.

    Metrics in nats per token: `key_loss` on the key tokens, whose exponential is LongPPL; `loss` on all tokens; and
    `position_loss` at n, on the positions from n/2 to n.

    Args:
        windows: token ids (N, T + 1), int64.
        key_tokens: makes the mask (N, T) of the key tokens, as of `key_tokens`.

    Source: Fang et al., What is Wrong with Perplexity for Long-context Language Modeling? (2024), arXiv 2410.23771.
    """

    def __init__(self, windows: np.ndarray, key_tokens: KeyTokens) -> None:
        self.windows, self.key_tokens = windows, key_tokens
        self.name, self.length, self.count = NAME, windows.shape[1] - 1, len(windows)
        self.work = float(windows.size)
        self.identity = hashlib.sha256(windows.tobytes()).hexdigest()[:16]

    def first_item(self) -> LongText:
        return LongText(self.windows[:1], lambda step: self.key_tokens(step, 1))

    def measure(self, lm: Any, step: StepRunner) -> list[ItemMetric]:
        is_key_NT = self.key_tokens(step)
        losses_NT = np.stack([self._losses(lm, number, step) for number in range(self.count)])
        length = losses_NT.shape[1]
        keys_N = is_key_NT.sum(1)
        metrics = []
        if keys_N.any():
            sums_N = np.where(is_key_NT, losses_NT, 0.0).sum(1)
            metrics.append(ItemMetric("key_loss", sums_N.tolist(), keys_N.tolist(), False, False, length))
        sums_N = losses_NT.sum(1)
        metrics.append(ItemMetric("loss", sums_N.tolist(), [length] * self.count, False, False, length))
        for start, end in ranges(length):
            sums_N = losses_NT[:, start:end].sum(1)
            sizes = [end - start] * self.count
            metrics.append(ItemMetric("position_loss", sums_N.tolist(), sizes, False, False, end))
        return metrics

    def _losses(self, lm: Any, number: int, step: StepRunner) -> np.ndarray:
        label = f"{self.label}, window {number + 1} of {self.count}"
        ids = self.windows[number]
        return kept(step, label, float(len(ids)), lambda: token_losses(lm, ids), [len(ids) - 1])


def kept(
    step: StepRunner, label: str, work: float, make: Callable[[], np.ndarray], shape: Sequence[int], dtype: type = float
) -> np.ndarray:
    """Return the numbers of a step, which is measured again where those that were kept are damaged."""
    numbers = step(label, work, make)
    return numbers if (numbers.shape, numbers.dtype) == (tuple(shape), np.dtype(dtype)) else make()


def ranges(length: int) -> Iterator[tuple[int, int]]:
    """Yield ranges of positions, each twice as long as the one before; the last one ends at the length."""
    start, end = 0, FIRST_POSITION
    while 2 * end <= length:
        yield start, end
        start, end = end, 2 * end
    yield start, length


def token_losses(lm: Any, ids: np.ndarray) -> np.ndarray:
    """Return the loss of each token of a text but the first, in nats, float64."""
    tokens = torch.from_numpy(ids.astype(np.int64)).to(lm.device)
    with torch.no_grad():
        logits_TV = lm._model_call(tokens[None, :-1])[0]
        parts = zip(logits_TV.split(ROWS_AT_ONCE), tokens[1:].split(ROWS_AT_ONCE), strict=True)
        losses = [cross_entropy(logits.float(), targets, reduction="none") for logits, targets in parts]
    return torch.cat(losses).double().cpu().numpy()


def key_tokens(windows: np.ndarray, evaluator: Callable[[], Any], name: str, context: int | None = None) -> KeyTokens:
    """Return what makes the mask (N, T) of the tokens that an evaluator predicts, and only with the long context.

    They have a log probability above `MIN_LOG_P` in the window, and one lower by more than `MIN_GAIN` after a short
    context, whose start moves in steps, as in the code of the paper (github.com/PKU-ML/LongPPL): it has from `SHORT` to
    `SHORT` plus a step tokens. Nothing is a key token before the end of the first one.

    Args:
        windows: (N, T + 1).
        evaluator: makes the language model, whose training length is at least T.
        name: of the evaluator, for labels.
        context: tokens that the evaluator reads at once, for the size of the short context; None is T.
    """
    length = windows.shape[1] - 1
    short = max(min(SHORT, (context or length) // SHARE), 2)
    stride = max(short // STRIDES, 1)
    masks: list[np.ndarray] = []

    def make(step: StepRunner, count: int = len(windows)) -> np.ndarray:
        for number in range(len(masks), count):
            ids = windows[number]
            label = f"key tokens of {length:,} by {name}, window {number + 1} of {len(windows)}"
            mask = partial(_mask, evaluator, ids, short, stride)
            masks.append(kept(step, label, float(STRIDES * length), mask, [length], bool))
        return np.stack(masks[:count])

    return make


def _mask(evaluator: Callable[[], Any], ids: np.ndarray, short: int, stride: int) -> np.ndarray:
    lm = evaluator()
    long_T = -token_losses(lm, ids)
    short_T = long_T.copy()
    for start in range(stride, len(ids) - short, stride):
        window = ids[start : start + short + stride]
        short_T[start + short - 1 : start + len(window) - 1] = -token_losses(lm, window)[short - 1 :]
    return (long_T > MIN_LOG_P) & (long_T - short_T > MIN_GAIN)


def windows_of(
    tokenizer: Callable[[str], Any],
    length: int,
    count: int,
    seed: int,
    files: Any,
    key: str = "files",
    share: float = 1,
) -> np.ndarray:
    """Return windows of texts, (N, length + 1): at most `count`, drawn by the seed among those that do not overlap.

    Of the windows that the files have they are at most a `share`, but four if there are.

    Raises:
        ValueError: naming the key of the files, if none contains a text of this many tokens.
    """
    windows: list[Sequence[int]] = []
    for path in files_of(key, patterns_of(key, files)):
        require_content(key, path, "text")
        ids = tokenizer(read(path, key)).input_ids
        windows += [ids[start : start + length + 1] for start in range(0, len(ids) - length, length)]
    if not windows:
        raise ValueError(f"{key} must contain a text of at least {length + 1:,} tokens")
    most = min(count, max(math.floor(share * len(windows)), 4))
    order = np.random.default_rng(seed).permutation(len(windows))[:most]
    return np.array([windows[number] for number in sorted(order)], np.int64)


def outside(
    tokenizer: Callable[[str], Any], windows: np.ndarray, files: Any, key: str = "files"
) -> Iterator[list[int]]:
    """Yield the texts of files without some of their windows, as of `windows_of`, in pieces of token ids."""
    taken, length = {window.tobytes() for window in windows}, windows.shape[1] - 1
    for path in files_of(key, patterns_of(key, files)):
        ids, piece = np.asarray(tokenizer(read(path, key)).input_ids, np.int64), []
        for start in range(0, len(ids), length):
            if ids[start : start + length + 1].tobytes() not in taken:
                piece += ids[start : start + length].tolist()
            elif piece:
                yield piece
                piece = []
        if piece:
            yield piece

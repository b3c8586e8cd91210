"""Batches of all kinds.

Dimension letters: B windows or examples, T tokens of a row, S tokens of a source, C classes.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from poslab.data.context import Context

IGNORE = -100


class TokenBatch(NamedTuple):
    """Text and the token to predict at each of its tokens.

    Args:
        tokens: token ids, (B, T) int64.
        targets: the token to predict, such as the next one, (B, T) int64; `IGNORE` (-100) where there is none.
        segments: number of the document within its row, from 0, (B, T) int64; None unless documents are kept apart.
        real: (B, T) bool, False at padding; None where there is none.
    """

    tokens: Tensor
    targets: Tensor
    segments: Tensor | None = None
    real: Tensor | None = None

    @property
    def num_rows(self) -> int:
        """B."""
        return len(self.tokens)

    @property
    def num_tokens(self) -> int | Tensor:
        """Number of tokens without padding; a scalar tensor where there is padding."""
        return self.tokens.numel() if self.real is None else self.real.sum()


class ClassBatch(NamedTuple):
    """Texts and their classes.

    Args:
        tokens: token ids, (B, T) int64.
        real: (B, T) bool, False at padding.
        classes: (B,) int64, `IGNORE` in rows that do not count; where a text may have several classes, (B, C) int64, 1
            for each that it has and 0 for the others.
    """

    tokens: Tensor
    real: Tensor
    classes: Tensor

    @property
    def num_rows(self) -> int:
        """B."""
        return len(self.tokens)

    @property
    def num_tokens(self) -> Tensor:
        """Number of tokens without padding, a scalar."""
        return self.real.sum()


class PairBatch(NamedTuple):
    """Sources and the targets to be written from them.

    Args:
        source: token ids, (B, S) int64.
        real_source: (B, S) bool, False at padding; None where there is none.
        target: input of the decoder, (B, T) int64, which begins with the same token in every row.
        targets: the token to predict after each of these, (B, T) int64; `IGNORE` at padding.
    """

    source: Tensor
    real_source: Tensor | None
    target: Tensor
    targets: Tensor

    @property
    def num_rows(self) -> int:
        return len(self.source)

    @property
    def num_tokens(self) -> Tensor:
        """Number of tokens without padding, a scalar."""
        sources = self.source.numel() if self.real_source is None else self.real_source.sum()
        return sources + (self.targets != IGNORE).sum()


class SpanBatch(NamedTuple):
    """Questions with their contexts, and the places of the answers.

    Args:
        tokens: token ids, (B, T) int64.
        real: (B, T) bool, False at padding.
        answerable: (B, T) bool, True where an answer may begin and end: in the context, and at the first token, which
            stands for "no answer here".
        spans: (B, 2) int64, the first and the last token of the answer; `IGNORE` in rows that do not count.
        contexts: one a row, to turn places of tokens into text; empty in training.
        right: the right answers, one list a row, an empty one where there is no answer; empty in training.
    """

    tokens: Tensor
    real: Tensor
    answerable: Tensor
    spans: Tensor
    contexts: Sequence[Context] = ()
    right: Sequence[list[str]] = ()

    @property
    def num_rows(self) -> int:
        """B."""
        return len(self.tokens)

    @property
    def num_tokens(self) -> Tensor:
        """Number of tokens without padding, a scalar."""
        return self.real.sum()


Batch = TokenBatch | ClassBatch | PairBatch | SpanBatch

Collate = Callable[[Any, np.ndarray], Batch]
"""Makes a batch of examples, as `Task.collate` does."""


def padded(rows: Sequence[np.ndarray]) -> tuple[Tensor, Tensor]:
    """Pad rows of token ids at the end; return them, (B, T) int64, and a mask that is False at padding, (B, T) bool.

    Args:
        rows: 1-dimensional, of any integer dtype, at least one of them with a token.
    """
    lengths = np.array([len(row) for row in rows])
    real_BT = np.arange(lengths.max()) < lengths[:, None]
    tokens_BT = np.zeros(real_BT.shape, dtype=np.int64)
    tokens_BT[real_BT] = np.concatenate(rows)
    return torch.from_numpy(tokens_BT), torch.from_numpy(real_BT)


def unless_whole(real_BT: Tensor) -> Tensor | None:
    """Return the mask of padding, or None without padding, where attention needs no mask."""
    return None if bool(real_BT.all()) else real_BT

"""Batches of tokens.

Dimension letters: B windows or examples, T tokens of a row, E tokens before it.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

IGNORE = -100  # the target of a token, or the class of a row, that does not count


Batch = tuple[Any, ...]  # a batch of any task: a `NamedTuple` of tensors in the file of the task


class TokenBatch(NamedTuple):
    """Text and the token to predict at each of its tokens.

    Args:
        tokens: token ids, (B, T) int64.
        targets: the token to predict, such as the next one, (B, T) int64; `IGNORE` (-100) where there is none.
        segments: number of the document within its row, from 0, (B, T) int64; None unless documents are kept apart.
        real: (B, T) bool, False at padding; None where there is none.
        earlier: token ids of the text before each row, (B, E) int64, which only a teacher reads; None for no teacher.
    """

    tokens: Tensor
    targets: Tensor
    segments: Tensor | None = None
    real: Tensor | None = None
    earlier: Tensor | None = None


Collate = Callable[[Any, np.ndarray], Batch]  # makes a batch of examples, as `Task.collate` does


def padded(rows: Sequence[np.ndarray]) -> tuple[Tensor, Tensor]:
    """Pad rows of token ids at the end; return them, (B, T) int64, and a mask that is False at padding, (B, T) bool."""
    lengths = np.array([len(row) for row in rows])
    real_BT = np.arange(lengths.max()) < lengths[:, None]
    tokens_BT = np.zeros(real_BT.shape, dtype=np.int64)
    tokens_BT[real_BT] = np.concatenate(rows)
    return torch.from_numpy(tokens_BT), torch.from_numpy(real_BT)


def mask_or_none(real_BT: Tensor) -> Tensor | None:
    """Return the mask of padding, or None without padding, where attention needs no mask."""
    return None if bool(real_BT.all()) else real_BT

"""One batch of language-modelling windows.

Dimensions: B windows, T tokens of a window.
"""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

IGNORE = -100


class TokenBatch(NamedTuple):
    """Windows of text and what to predict at each of their tokens.

    Args:
        tokens: token ids, (B, T) int64.
        targets: the token that follows each one, (B, T) int64; `IGNORE` (-100) where nothing is to be predicted.
        segments: number of the document within its row, from 0, (B, T) int64; None unless documents are kept apart.
    """

    tokens: Tensor
    targets: Tensor
    segments: Tensor | None


def make_batch(windows: np.ndarray, boundary: int | None) -> TokenBatch:
    """Turn windows of T + 1 successive tokens into inputs and targets.

    Args:
        windows: token ids, (B, T + 1), any integer dtype.
        boundary: the token that ends a document, where documents are to be kept apart: the token after it belongs
            to another document, so it is not predicted, and a new segment begins with it. None: one segment.

    Example: with boundary 9, the window 5 9 6 7 gives tokens 5 9 6, targets 9 -100 7, segments 0 0 1.
    """
    windows_BU = torch.from_numpy(windows.astype(np.int64))
    tokens_BT = windows_BU[:, :-1].contiguous()
    targets_BT = windows_BU[:, 1:].contiguous()
    if boundary is None:
        return TokenBatch(tokens_BT, targets_BT, None)
    ends_BT = tokens_BT == boundary
    segments_BT = ends_BT.cumsum(1) - ends_BT.long()
    return TokenBatch(tokens_BT, targets_BT.masked_fill(ends_BT, IGNORE), segments_BT)

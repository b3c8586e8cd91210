"""Hidden states that represent whole sequences. Dimension letters: B batch, T tokens, M model dim."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

Pooling = Literal["mean", "first", "last"]
"""Hidden state that represents a sequence: the mean over its tokens, or that of its first or last token."""


def pooled(hidden_BTM: Tensor, real: Tensor | None, pooling: Pooling) -> Tensor:
    """Return the hidden state that represents each sequence, (B, M), whatever its padding.

    `real` is (B, T) bool, False at padding, with at least one True in each row; None if there is no padding.
    """
    if pooling == "mean":
        if real is None:
            return hidden_BTM.mean(dim=1)
        weight_BT1 = real.unsqueeze(-1).to(hidden_BTM.dtype)
        return (hidden_BTM * weight_BT1).sum(dim=1) / weight_BT1.sum(dim=1)
    if real is None:
        return hidden_BTM[:, 0 if pooling == "first" else -1]
    index = torch.arange(real.shape[1], device=real.device)
    index_B = real.int().argmax(dim=1) if pooling == "first" else torch.where(real, index, -1).amax(dim=1)
    return hidden_BTM[torch.arange(len(hidden_BTM), device=real.device), index_B]

"""A learned temperature of each head. Dimension letters: B batch, H heads, T queries."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from poslab.arguments import Count, Positive
from poslab.encodings.temperature.base import Temperature


class HeadScale(Temperature):
    """Logits of each head times a learned number, whatever the number of visible keys.

        logit(i, j) = s_h * (what the encoding makes of q_i . k_j / sqrt(D))

    Args:
        num_heads: heads H.
        initial_scale: initial s_h, above 0 (1: the logits of the model; its authors: 1.6, to reach 8,192 tokens).

    Parameters: `scales` (H,), for each layer. Causal and bidirectional. Costs one product for each query and head.
    Claimed to let a model without position read several times its training length, if these numbers alone are tuned on
    longer texts and all other weights stay (`adapt=encoding`). Its authors' code keeps each number at 1 or above; here
    it is free.

    Source: Wang et al., "Length Generalization of Causal Transformers without Position Encoding" (Findings of
    ACL 2024), section 4.
    """

    def __init__(self, num_heads: Count, initial_scale: Positive = 1.0) -> None:
        super().__init__()
        self.scales = nn.Parameter(torch.full((num_heads,), initial_scale))

    def forward(self, visible_BT: Tensor) -> Tensor:
        return self.scales.float().view(1, -1, 1, 1).expand(-1, -1, visible_BT.shape[1], -1)

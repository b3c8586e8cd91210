"""Scalable softmax (SSMax). Dimension letters: B batch, H heads, T queries."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from poslab.arguments import Count, Positive
from poslab.encodings.temperature.base import Temperature


class SSMax(Temperature):
    """Scalable softmax: each head learns how much its logits grow with the logarithm of the number of visible keys.

        logit(i, j) = s_h * ln(n_i) * (what the encoding makes of q_i . k_j / sqrt(D))

    which is the softmax with n_i ** s_h in the place of e. n_i counts visible keys; the package `scalable-softmax`
    uses the length of the row, which under a causal mask scales all rows alike.

    Args:
        num_heads: heads H.
        initial_scale: initial s_h, above 0 (0.43 in the paper's figure 1 and the package: usual logits at ten keys).

    Parameters: `scales` (H,), for each layer. Causal and bidirectional. Costs one number per query and head. Claimed to
    keep attention on what matters as texts grow past the training length. Mistral Large 4 has
    s_h ln(position + 1) + b_h: the same in a plain causal text, but for b.

    Source: Nakanishi, "Scalable-Softmax Is Superior for Attention" (2025), section 3.
    """

    def __init__(self, num_heads: Count, initial_scale: Positive = 0.43) -> None:
        super().__init__()
        self.scales = nn.Parameter(torch.full((num_heads,), initial_scale))

    def forward(self, visible_BT: Tensor) -> Tensor:
        return self.scales.float().view(-1, 1, 1) * visible_BT.clamp_min(1).log()[:, None, :, None]

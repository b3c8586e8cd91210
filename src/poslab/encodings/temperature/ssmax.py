"""Scalable softmax (SSMax). Dimension letters: B batch, H heads, T queries."""

from __future__ import annotations

from typing import Annotated

import torch
from torch import Tensor, nn

from poslab.arguments import NOT_EXTREME, Count, Range
from poslab.encodings.temperature.base import Temperature


class SSMax(Temperature):
    """Scalable softmax: each head learns how much its logits grow with the logarithm of the number of visible keys.

        logit(i, j) = s_h * ln(n_i) * (what the encoding makes of q_i . k_j / sqrt(D))

    which is the softmax with n_i ** s_h in the place of e; with a bias, the factor is s_h ln(n_i) + b_h. n_i counts
    visible keys; the package `scalable-softmax` uses the length of the row, which under a causal mask scales all rows
    alike.

    Args:
        num_heads: heads H.
        initial_scale: initial s_h, at least 0 (0.43 in the paper's figure 1 and the package: usual logits at ten keys;
            Mistral Large 4: 0, with a bias).
        bias: True learns b_h too, which is 1 at first (paper's general form, and Mistral Large 4), False has b_h = 0.

    Parameters: `scales` (H,), and perhaps `biases` (H,), for each layer. Causal and bidirectional. Costs one number per
    query and head. Claimed to keep attention on what matters as texts grow past the training length. Mistral Large 4
    counts positions, which is the same in a plain causal text.

    Source: Nakanishi, "Scalable-Softmax Is Superior for Attention" (2025), section 3.
    """

    def __init__(
        self,
        num_heads: Count,
        initial_scale: Annotated[float, Range(at_least=0), NOT_EXTREME] = 0.43,
        bias: bool = False,
    ) -> None:
        super().__init__()
        self.scales = nn.Parameter(torch.full((num_heads,), initial_scale))
        self.biases = nn.Parameter(torch.ones(num_heads)) if bias else None

    def forward(self, visible_BT: Tensor) -> Tensor:
        factor_BHT1 = self.scales.float().view(-1, 1, 1) * visible_BT.clamp_min(1).log()[:, None, :, None]
        return factor_BHT1 if self.biases is None else factor_BHT1 + self.biases.float().view(-1, 1, 1)

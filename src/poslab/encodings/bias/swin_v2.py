"""Log-spaced continuous position bias (log-CPB). Dimension letters: A axes, H heads."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from poslab.arguments import Count
from poslab.encodings.bias.distance_bias import OffsetBias
from poslab.encodings.numerics import float32_linear

EXTENT = 8  # longest offset of the grid of training on each axis, before the logarithm
HIGHEST = 16  # bound of the bias


class SwinV2Bias(OffsetBias):
    """Log-spaced continuous position bias of Swin V2 (log-CPB): a small network of the logarithm of the offset.

        logit(i, j) = q_i . k_j / sqrt(D) + 16 * sigmoid(MLP_h(x))
        x_a = sign(d_a) * log2(1 + |d_a|) / log2(8),  d_a = 8 * (i_a - j_a) / (n_a - 1)

    on each axis a of n_a cells, with MLP: A -> width -> H, ReLU between.

    Use it when images will be larger than in training: between an offset and twice as far is one step of the input,
    so that little of a larger grid is new to the network.

    Args:
        num_heads: heads H.
        grid: number of cells n on each axis of the grid of training (paper: [8, 8] or [16, 16]; each at least 1).
        width: hidden units of the network (paper: 512; at least 1).

    Parameters, for each layer its own: `hidden.weight` (width, A), `hidden.bias` (width,), `output.weight` (H, width);
    weights normal with standard deviation 0.02, biases 0, as in the authors' code.

    Causal and bidirectional, for real offsets too. Claimed to carry over to larger windows where a table
    (`RelativeTable`) loses. A text is at the same number on every axis. A token without a position has no bias. Time:
    the network at each offset that occurs, (2 n_1 - 1) ... (2 n_A - 1) of them on a grid, 2T - 1 in a text.

    Traps: in Swin V2 queries and keys have unit length, and their products a learned factor of up to 100 (cosine
    attention). Here products are the usual ones, scaled by 1 / sqrt(D). The authors' code divides by log2(8), which the
    formula of the paper has not.

    Source: Liu et al., "Swin Transformer V2" (CVPR 2022), section 3.3, and the authors' code.
    """

    shared_by_layers = False

    def __init__(self, num_heads: Count, grid: Sequence[Count] = (16, 16), width: Count = 512) -> None:
        super().__init__(len(grid))
        self.grid = tuple(grid)
        self.hidden = nn.Linear(len(grid), width)
        self.output = nn.Linear(width, num_heads, bias=False)
        for weight in (self.hidden.weight, self.output.weight):
            nn.init.trunc_normal_(weight, std=0.02)
        nn.init.zeros_(self.hidden.bias)

    def bias_of(self, offset: Tensor) -> Tensor:
        longest = torch.tensor([max(1, n - 1) for n in self.grid], device=offset.device, dtype=torch.float32)
        scaled = EXTENT * offset.to(torch.float32) / longest
        logarithm = scaled.sign() * torch.log2(1 + scaled.abs()) / math.log2(EXTENT)
        hidden = float32_linear(logarithm, self.hidden.weight, self.hidden.bias).relu()
        return HIGHEST * float32_linear(hidden, self.output.weight).sigmoid().movedim(-1, 0)

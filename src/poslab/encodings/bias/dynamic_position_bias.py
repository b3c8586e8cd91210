"""Dynamic position bias: a network of the signed logarithm of distance. Dimension letters: H heads."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from poslab.arguments import Count
from poslab.encodings.bias.distance_bias import DistanceBias
from poslab.encodings.numerics import float32_linear


class DynamicPositionBias(DistanceBias):
    """Dynamic position bias (DPB): a small network makes the bias of all heads from the logarithm of the distance.

        logit(i, j) = q_i . k_j / sqrt(D) + MLP_h(x),    x = sign(i - j) ln(1 + |i - j|)

    Use it when an encoder should learn any smooth function of distance, on each side its own, for texts of any length.

    Args:
        num_heads: heads H.
        width: hidden units of each layer (at least 1).
        depth: hidden layers, each with SiLU (x-transformers: 2; at least 1).

    Parameters in each layer of the stack: `hidden` (weights (width, 1), then (width, width), with biases) and
    `output.weight` (H, width), without a bias, which a softmax would ignore.

    Causal and bidirectional. Distances beyond the training length are on the logarithm's slow side, but nothing has
    trained them. Time: the network at 2T - 1 distances for each layer, width^2 operations each.

    Traps: CrossFormer's network has ReLU and layer norms, for windows of images, and reads distances as they are;
    this is the form of x-transformers with `log_distance=True`. Swin V2's, with an end for the bias, is
    `encoding=swin_v2`, and for only keys before the query there is FIRE.

    Source: Wang et al., "CrossFormer: A Versatile Vision Transformer Hinging on Cross-scale Attention" (ICLR 2022),
    section 3.3; the logarithm from Liu et al., "Swin Transformer V2" (CVPR 2022), section 3.3.
    """

    shared_by_layers = False

    def __init__(self, num_heads: Count, width: Count = 64, depth: Count = 2) -> None:
        super().__init__()
        self.hidden = nn.ModuleList(nn.Linear(width if layer else 1, width) for layer in range(depth))
        self.output = nn.Linear(width, num_heads, bias=False)

    def bias_at(self, distance: Tensor) -> Tensor:
        distance = distance.to(torch.float32)
        x = (distance.sign() * distance.abs().log1p()).unsqueeze(-1)
        for layer in self.hidden:
            assert isinstance(layer, nn.Linear)
            x = functional.silu(float32_linear(x, layer.weight, layer.bias))
        return float32_linear(x, self.output.weight).movedim(-1, 0)

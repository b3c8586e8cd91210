"""Sandwich: the inner product of sinusoids as a bias. Dimension letters: H heads."""

from __future__ import annotations

import torch
from torch import Tensor

from poslab.arguments import Count
from poslab.encodings.bias.distance_bias import DistanceBias, along
from poslab.encodings.frequencies import Base
from poslab.encodings.offsets import Metric


class Sandwich(DistanceBias):
    """Sandwich: the inner product of two sinusoidal encodings as a bias, which falls about logarithmically.

        logit(i, j) = q_i . k_j / sqrt(D) + (sum_m cos((i - j) * base ** (-2m / dim)) - dim / 2) / (8h / H)

    over m = 1, ..., dim / 2, for head h = 1, ..., H.

    Use it when texts will be longer than in training and nothing should be learned: a penalty like ALiBi's, of the form
    that sinusoids give.

    Args:
        num_heads: heads H.
        dim: width of the sinusoids, not of the model (128; even, at least 2). Head 1 has a bias of at least -dim * H /
            8.
        base: frequency base (paper: 10,000; above 1).
        metric: distance on several axes, `null` for the order in storage; see `DistanceBias`.

    No parameters. Causal in the paper; in an encoder left and right are the same. Claimed to extrapolate like KERPLE
    and T5, with nothing to learn. Time and memory: one row of 2T - 1 numbers per head.

    Traps: m begins at 1, so that the fastest wave rotates by less than one radian per token, unlike in sinusoidal
    encodings. Subtracting dim / 2, which a softmax ignores, makes the bias 0 at distance 0.

    Source: Chi et al., "Dissecting Transformer Length Extrapolation via the Lens of Receptive Field Analysis"
    (ACL 2023); the sum as in NeMo's implementation.
    """

    def __init__(self, num_heads: Count, dim: Count = 128, base: Base = 10_000.0, metric: Metric | None = None) -> None:
        super().__init__(metric)
        if dim % 2:
            raise ValueError(f"dim must be a positive even integer, got {dim}")
        self.num_heads, self.dim, self.base = num_heads, dim, base

    def bias_at(self, distance: Tensor) -> Tensor:
        # In float32: a cosine is off by up to 0.1 at a distance of 2^20.
        distance = distance.to(torch.float32)
        waves = torch.zeros_like(distance)
        for m in range(1, self.dim // 2 + 1):  # one by one: for scattered positions all at once would not fit in memory
            waves += (distance * self.base ** (-2 * m / self.dim)).cos() - 1
        heads = torch.arange(1, self.num_heads + 1, device=distance.device, dtype=torch.float32)
        return waves / along(heads * (8 / self.num_heads), distance)

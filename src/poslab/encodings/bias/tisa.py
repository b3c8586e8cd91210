"""TISA: learned bumps over distance. Dimension letters: H heads."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from poslab.arguments import Count
from poslab.encodings.bias.distance_bias import DistanceBias, along
from poslab.encodings.bias.nearest import fit_by_lbfgs


class Tisa(DistanceBias):
    """Translation-invariant self-attention: each head has some learned bumps at the distances that it attends to.

        logit(i, j) = q_i . k_j / sqrt(D) + sum_s amplitude_s * exp(-|sharpness_s| * (j - i - offset_s) ** 2)

    over kernels s = 1, ..., num_kernels of each head.

    Use it when a few parameters should say which distances matter, and you want to read them afterwards.

    Args:
        num_heads: heads H.
        num_kernels: bumps of each head (paper: 5; at least 1).

    Parameters: `amplitudes`, `sharpness`, `offsets` (num_kernels, H), for each layer its own. Bidirectional, and
    left differs from right: a bump ahead of the query has a positive offset. Causal too, where bumps ahead are unused.
    No claim beyond the training length, where the bias has decayed to 0. Time and memory: one row of 2T - 1
    numbers per head and kernel, and their gradients.

    Traps: the sign is j - i, not i - j. The authors' first code leaves initial values open; these are from a later
    version: offsets normal with standard deviation 5, the others normal about 0.1 with 0.01.

    Source: Wennberg, Henter, "The Case for Translation-Invariant Self-Attention in Transformer-Based Language Models"
    (ACL 2021), and its authors' code.
    """

    shared_by_layers = False

    def __init__(self, num_heads: Count, num_kernels: Count = 5) -> None:
        super().__init__()
        self.amplitudes = nn.Parameter(0.1 + 0.01 * torch.randn(num_kernels, num_heads))
        self.sharpness = nn.Parameter(0.1 + 0.01 * torch.randn(num_kernels, num_heads))
        self.offsets = nn.Parameter(5.0 * torch.randn(num_kernels, num_heads))

    def learned(self) -> dict[str, Tensor]:
        return {"amplitudes": self.amplitudes, "sharpness": self.sharpness.abs(), "offsets": self.offsets}

    def fit(self, distance_N: Tensor, logits_HN: Tensor, weight_N: Tensor) -> None:
        """Fit all bumps from where they begin, which finds a minimum near them; see `PositionalEncoding.fit`."""
        fit_by_lbfgs(self, distance_N, logits_HN, weight_N)

    def bias_at(self, distance: Tensor) -> Tensor:
        ahead = -distance.to(torch.float32)
        bias = torch.zeros((), device=distance.device)
        for kernel in zip(*self.learned().values(), strict=True):
            amplitude, sharpness, offset = (along(number_H.to(torch.float32), distance) for number_H in kernel)
            bias = bias + amplitude * torch.exp(-sharpness * (ahead - offset).square())
        return bias

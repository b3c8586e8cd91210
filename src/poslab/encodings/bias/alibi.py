from __future__ import annotations

import torch
from torch import Tensor

from poslab.encodings.base import DistanceBias


class Alibi(DistanceBias):
    """Attention with linear biases: each head discounts a key by its distance, at a fixed rate of its own.

        logit(i, j) = q_i . k_j / sqrt(D) - slope_h * |i - j|

    Args:
        num_heads: heads H; the slopes are a geometric sequence over them, also when H is not a power of two.
        max_exponent: the smallest slope is 2 ** -max_exponent (paper: 8; above 0).

    Causal as in the paper; in an encoder the bias is symmetric, so it cannot tell left from right. No parameters.

    Source: Press, Smith, Lewis, "Train Short, Test Long" (ICLR 2022), section 3.
    """

    def __init__(self, num_heads: int, max_exponent: float = 8.0) -> None:
        super().__init__()
        if not max_exponent > 0:
            raise ValueError(f"max_exponent must be positive, got {max_exponent}")
        self.exponents = slope_exponents(num_heads, max_exponent)

    def bias_at(self, distance: Tensor) -> Tensor:
        # Slopes are made here and not kept in a buffer, which `.to(bfloat16)` would round.
        slopes = 2.0 ** -torch.tensor(self.exponents, device=distance.device, dtype=torch.float32)
        return -slopes.view(-1, *[1] * distance.dim()) * distance.abs().to(torch.float32)


def slope_exponents(num_heads: int, max_exponent: float = 8.0) -> list[float]:
    """The slope of head h = 1, ..., H is `2 ** -exponent`; the exponents are `h * max_exponent / H`.

    Where H is not a power of two, the authors' code takes the exponents of the largest power of two below H, and then
    every second one of twice as many heads: 3 heads have the exponents 4, 8 and 2.
    """
    power = 2 ** (num_heads.bit_length() - 1)
    exponents = [max_exponent * h / power for h in range(1, power + 1)]
    between = [max_exponent * h / (2 * power) for h in range(1, 2 * power + 1, 2)]
    return exponents + between[: num_heads - power]

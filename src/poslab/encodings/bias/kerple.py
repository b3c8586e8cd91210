"""KERPLE: biases from kernels, with parameters that must stay in a range. Dimension letters: H heads."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from poslab.arguments import Count
from poslab.encodings.bias.distance_bias import DistanceBias

SMALLEST = 0.01
"""Smallest value of every parameter, at which the authors' code clamps."""


class KerpleLog(DistanceBias):
    """KERPLE, logarithmic: each head discounts a key by the logarithm of its distance, at learned rates.

        logit(i, j) = q_i . k_j / sqrt(D) - r1_h * ln(1 + r2_h * |i - j|),  r1_h, r2_h > 0

    Parameters: `raw_r1`, `raw_r2` (H,), one for all layers of a stack. Causal in the paper; in an encoder left and
    right are the same. Claimed to extrapolate to several times the training length, best of its family. Time and
    memory: one row of 2T - 1 numbers per head, and its gradient.

    Traps: the authors' code clamps r1 and r2 to at least 0.01 in the forward pass, behind the optimizer's back. Here
    they are 0.01 + softplus(raw), with the same range and a gradient everywhere, but small rates learn more slowly.
    They start as there, uniform in (0.01, 2) and (0.01, 1). NeMo adds an exponent to the distance, and starts r1 at
    ALiBi's slopes and the others at 1.

    Source: Chi et al., "KERPLE: Kernelized Relative Positional Embedding for Length Extrapolation" (NeurIPS 2022),
    the logarithmic variant; initial and smallest values as in the authors' code.
    """

    def __init__(self, num_heads: Count) -> None:
        super().__init__()
        self.raw_r1 = nn.Parameter(_raw_of_uniform(num_heads, 2.0))
        self.raw_r2 = nn.Parameter(_raw_of_uniform(num_heads, 1.0))

    def learned(self) -> dict[str, Tensor]:
        return {"r1": _positive(self.raw_r1), "r2": _positive(self.raw_r2)}

    def bias_at(self, distance: Tensor) -> Tensor:
        r1, r2 = (_along(rate_H, distance) for rate_H in self.learned().values())
        return -r1 * torch.log1p(r2 * distance.abs())


class KerplePower(DistanceBias):
    """KERPLE, power: each head discounts a key by a power of its distance, at a learned rate.

        logit(i, j) = q_i . k_j / sqrt(D) - r1_h * |i - j| ** r2_h,  r1_h > 0, 0 < r2_h <= 2

    ALiBi is r2 = 1 with fixed r1.

    Parameters: `raw_r1`, `raw_r2` (H,), one for all layers of a stack. Causal in the paper; in an encoder left and
    right are the same. Claimed to extrapolate, less well than the logarithm. Time and memory: one row of 2T - 1 numbers
    per head, and its gradient.

    Traps: the authors' code clamps r1 to at least 0.01 and r2 to [0.01, 2] in the forward pass. Here r1 is
    0.01 + softplus(raw_r1) and r2 is 0.01 + 1.99 * sigmoid(raw_r2): the same ranges without their ends, and a gradient
    everywhere. They start as there, uniform in (0.01, 1) and (0.01, 2). That code also offers a kernel that multiplies
    logits, exp(-r1 * |i - j| ** r2), which is not part of this class.

    Source: Chi et al., "KERPLE: Kernelized Relative Positional Embedding for Length Extrapolation" (NeurIPS 2022),
    the power variant; initial values and ranges as in the authors' code.
    """

    def __init__(self, num_heads: Count) -> None:
        super().__init__()
        self.raw_r1 = nn.Parameter(_raw_of_uniform(num_heads, 1.0))
        # Without the ends of the range, where a sigmoid does not learn.
        self.raw_r2 = nn.Parameter(torch.rand(num_heads).clamp(1e-3, 1 - 1e-3).logit())

    def learned(self) -> dict[str, Tensor]:
        r2 = SMALLEST + (2.0 - SMALLEST) * self.raw_r2.to(torch.float32).sigmoid()
        return {"r1": _positive(self.raw_r1), "r2": r2}

    def bias_at(self, distance: Tensor) -> Tensor:
        r1, r2 = (_along(rate_H, distance) for rate_H in self.learned().values())
        # `pow` has a gradient at distance 0, which exp(r2 * log(distance)) has not.
        return -r1 * distance.abs().to(torch.float32).pow(r2)


def _along(rate_H: Tensor, distance: Tensor) -> Tensor:
    """Return a rate of each head as (H, 1, ...), which broadcasts over distances of any shape."""
    return rate_H.view(-1, *[1] * distance.dim())


def _positive(raw: Tensor) -> Tensor:
    return SMALLEST + functional.softplus(raw.to(torch.float32))


def _raw_of_uniform(num_heads: int, high: float) -> Tensor:
    """Return the inverse of `_positive` at uniform numbers in (0.01, high)."""
    # At least 0.001 above the smallest value, since a softplus hardly learns closer to it.
    above = (torch.rand(num_heads) * (high - SMALLEST)).clamp_min(1e-3)
    return above.expm1().log()

"""KERPLE: biases from kernels, with parameters that must stay in a range. Dimension letters: H heads."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from poslab.arguments import Count
from poslab.encodings.bias.distance_bias import DistanceBias, along
from poslab.encodings.bias.nearest import least_error, nearest_slopes
from poslab.encodings.offsets import Metric

SMALLEST = 0.01  # smallest value of every parameter, at which the authors' code clamps

NEAREST = 1e-3
"""Distance from an end of their range, or share of it, that parameters keep at first: closer, they hardly learn."""

LEAST = SMALLEST + NEAREST  # least value of a rate at first


class KerpleLog(DistanceBias):
    """KERPLE, logarithmic: each head discounts a key by the logarithm of its distance, at learned rates.

        logit(i, j) = q_i . k_j / sqrt(D) - r1_h * ln(1 + r2_h * |i - j|),  r1_h, r2_h > 0

    Args:
        num_heads: heads H.
        metric: distance on several axes, `null` for the order in storage; see `DistanceBias`.

    Parameters: `raw_r1`, `raw_r2` (H,), one for all layers of a stack. Causal in the paper; in an encoder left and
    right are the same. Claimed to extrapolate to several times the training length, best of its family. Time and
    memory: one row of 2T - 1 numbers per head, and its gradient.

    Traps: the authors' code clamps r1 and r2 to at least 0.01 in the forward pass, behind the optimizer's back. Here
    they are 0.01 + softplus(raw), with the same range and a gradient everywhere, but small rates learn more slowly.
    They start as there, uniform in (0.01, 2) and (0.01, 1). NeMo adds an exponent to the distance, and starts r1 at
    ALiBi's slopes and the others at 1.

    Use it when texts will be longer than in training and near tokens matter most: the penalty grows with the logarithm
    of the distance, at a rate that each head learns. Small models here gained nothing from more context than in
    training.

    Source: Chi et al., "KERPLE: Kernelized Relative Positional Embedding for Length Extrapolation" (NeurIPS 2022),
    the logarithmic variant; initial and smallest values as in the authors' code.
    """

    def __init__(self, num_heads: Count, metric: Metric | None = None) -> None:
        super().__init__(metric)
        self.raw_r1 = nn.Parameter(_raw_of_uniform(num_heads, 2.0))
        self.raw_r2 = nn.Parameter(_raw_of_uniform(num_heads, 1.0))

    def learned(self) -> dict[str, Tensor]:
        return {"r1": _positive(self.raw_r1), "r2": _positive(self.raw_r2)}

    def fit(self, distance_N: Tensor, logits_HN: Tensor, weight_N: Tensor) -> None:
        """Search r2 up to 100, with the best r1 for each by linear regression; see `PositionalEncoding.fit`."""
        distance_N = distance_N.abs()

        def rates(log_r2_H: Tensor) -> tuple[Tensor, Tensor]:
            return nearest_slopes(torch.log1p(log_r2_H.exp()[:, None] * distance_N), logits_HN, weight_N, LEAST)

        log_r2_H = least_error(lambda x_H: rates(x_H)[1], math.log(LEAST), math.log(100), len(logits_HN))
        with torch.no_grad():
            self.raw_r1.copy_(_raw_of(rates(log_r2_H)[0]))
            self.raw_r2.copy_(_raw_of(log_r2_H.exp()))

    def bias_at(self, distance: Tensor) -> Tensor:
        r1, r2 = (along(rate_H, distance) for rate_H in self.learned().values())
        return -r1 * torch.log1p(r2 * distance.abs())


class KerplePower(DistanceBias):
    """KERPLE, power: each head discounts a key by a power of its distance, at a learned rate.

        logit(i, j) = q_i . k_j / sqrt(D) - r1_h * |i - j| ** r2_h,  r1_h > 0, 0 < r2_h <= 2

    ALiBi is r2 = 1 with fixed r1.

    Args:
        num_heads: heads H.
        metric: distance on several axes, `null` for the order in storage; see `DistanceBias`.

    Parameters: `raw_r1`, `raw_r2` (H,), one for all layers of a stack. Causal in the paper; in an encoder left and
    right are the same. Claimed to extrapolate, less well than the logarithm. Time and memory: one row of 2T - 1 numbers
    per head, and its gradient.

    Traps: the authors' code clamps r1 to at least 0.01 and r2 to [0.01, 2] in the forward pass. Here r1 is
    0.01 + softplus(raw_r1) and r2 is 0.01 + 1.99 * sigmoid(raw_r2): the same ranges without their ends, and a gradient
    everywhere. They start as there, uniform in (0.01, 1) and (0.01, 2). That code also offers a kernel that multiplies
    logits, exp(-r1 * |i - j| ** r2), which is not part of this class.

    Use it when ALiBi fits, but each head should learn how fast its penalty grows.

    Source: Chi et al., "KERPLE: Kernelized Relative Positional Embedding for Length Extrapolation" (NeurIPS 2022),
    the power variant; initial values and ranges as in the authors' code.
    """

    def __init__(self, num_heads: Count, metric: Metric | None = None) -> None:
        super().__init__(metric)
        self.raw_r1 = nn.Parameter(_raw_of_uniform(num_heads, 1.0))
        self.raw_r2 = nn.Parameter(torch.rand(num_heads).clamp(NEAREST, 1 - NEAREST).logit())

    def learned(self) -> dict[str, Tensor]:
        r2 = SMALLEST + (2.0 - SMALLEST) * self.raw_r2.to(torch.float32).sigmoid()
        return {"r1": _positive(self.raw_r1), "r2": r2}

    def fit(self, distance_N: Tensor, logits_HN: Tensor, weight_N: Tensor) -> None:
        """Search r2, with the best r1 for each by linear regression; see `PositionalEncoding.fit`."""
        distance_N = distance_N.abs().double()

        def rates(share_H: Tensor) -> tuple[Tensor, Tensor]:
            shape_HN = distance_N ** (SMALLEST + (2.0 - SMALLEST) * share_H[:, None])
            return nearest_slopes(shape_HN, logits_HN, weight_N, LEAST)

        share_H = least_error(lambda x_H: rates(x_H)[1], NEAREST, 1 - NEAREST, len(logits_HN))
        with torch.no_grad():
            self.raw_r1.copy_(_raw_of(rates(share_H)[0]))
            self.raw_r2.copy_(share_H.logit())

    def bias_at(self, distance: Tensor) -> Tensor:
        r1, r2 = (along(rate_H, distance) for rate_H in self.learned().values())
        # `pow` has a gradient at distance 0, which exp(r2 * log(distance)) has not.
        return -r1 * distance.abs().to(torch.float32).pow(r2)


def _positive(raw: Tensor) -> Tensor:
    return SMALLEST + functional.softplus(raw.to(torch.float32))


def _raw_of_uniform(num_heads: int, high: float) -> Tensor:
    """Return the inverse of `_positive` at uniform numbers in (0.01, high)."""
    above = (torch.rand(num_heads) * (high - SMALLEST)).clamp_min(NEAREST)
    return above.expm1().log()


def _raw_of(rate: Tensor) -> Tensor:
    """Return the inverse of `_positive` at any rates above the smallest value, large ones too."""
    above = rate - SMALLEST
    return above + (-(-above).expm1()).log()

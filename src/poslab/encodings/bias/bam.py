"""BAM: a prior over distances with a learned exponent. Dimension letters: H heads."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from poslab.arguments import Count
from poslab.encodings.bias.alibi import slope_exponents
from poslab.encodings.bias.distance_bias import DistanceBias, along
from poslab.encodings.offsets import Metric


class Bam(DistanceBias):
    """Bayesian attention mechanism (BAM): each head learns the scale and the exponent of its prior over distances.

        logit(i, j) = q_i . k_j / sqrt(D) - (exp(s_h) |i - j| + 0.00001) ** a_h

    A generalised Gaussian prior of the position that is attended to: ALiBi is a = 1, a Gaussian a = 2, no prior a = 0.

    Use it when ALiBi fits, but each head should learn how fast its penalty grows, and may come to ignore distance or to
    seek it.

    Args:
        num_heads: heads H.
        metric: distance on several axes, `null` for the order in storage; see `DistanceBias`.

    Parameters: `log_scale` s (H,), initially the logarithm of ALiBi's slopes, and `exponent` a (H,), initially 1; one
    for all layers of a stack. Nothing bounds them, unlike in KERPLE's power: below 0 the exponent prefers far keys.
    Causal and bidirectional. The authors use it with scalable softmax (`temperature=ssmax
    temperature.initial_scale=1`), and claim retrieval far beyond the training length. Time and memory: one row of
    2T - 1 numbers per head, and its gradient.

    Left out: the location of the authors' code, which moves the prior away from the query, and which they do not train.

    Source: Bianchessi et al., "Bayesian Attention Mechanism: A Probabilistic Framework for Positional Encoding and
    Context Length Extrapolation" (2025); the formula follows its code.
    """

    def __init__(self, num_heads: Count, metric: Metric | None = None) -> None:
        super().__init__(metric)
        self.log_scale = nn.Parameter(-math.log(2) * torch.tensor(slope_exponents(num_heads)))
        self.exponent = nn.Parameter(torch.ones(num_heads))

    def learned(self) -> dict[str, Tensor]:
        return {"scale": self.log_scale.to(torch.float32).exp(), "exponent": self.exponent.to(torch.float32)}

    def bias_at(self, distance: Tensor) -> Tensor:
        scale, exponent = (along(number_H, distance) for number_H in self.learned().values())
        return -(scale * distance.abs() + 1e-5).pow(exponent)

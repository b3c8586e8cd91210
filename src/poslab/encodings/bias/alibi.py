"""ALiBi: a linear penalty of distance. Dimension letters: H heads."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Annotated

import torch
from torch import Tensor

from poslab.arguments import Count, Positive, Range, checked
from poslab.encodings.bias.distance_bias import DistanceBias, along
from poslab.encodings.offsets import Metric

Asymmetry = Annotated[float, Range(above=-1, below=1)]
"""Number of tokens by which keys of one side count as nearer."""


class Alibi(DistanceBias):
    """Attention with linear biases: each head discounts a key by its distance, at its own fixed rate.

        logit(i, j) = q_i . k_j / sqrt(D) - slope_h * |i - j|
        slope_h = 2 ** -exponent_h,  exponent_h = h * max_exponent / H  for h = 1, ..., H

    This is for a power of two; other numbers of heads take the slopes of the next lower power, then every second one of
    the slopes of twice as many heads, as the authors' code does.

    Use it when texts will be longer than in training and recent tokens matter most. It has no parameters and needs no
    tuning. Every head discounts distance, so choose another where a token far back must be found.

    Args:
        num_heads: heads H; see `slope_exponents` for an H that is not a power of two.
        max_exponent: the smallest slope is 2 ** -max_exponent (paper: 8; above 0).
        asymmetry: number of tokens by which an encoder counts keys of one side as nearer: those ahead of the query if
            positive, those behind it if negative (between -1 and 1). At 0 an encoder sees left and right alike.
            No effect in a causal stack, the paper's own case.
        causal: True if keys are never ahead of the query.
        metric: distance on several axes, `null` for the order in storage (CROMA: euclidean); see `DistanceBias`.

    Published forms for encoders: 0 is the symmetric one that the first author suggests; 0.5 the "nonsymmetric with
    offset" of EIFY's fairseq, -slope * (|i - j| - 0.5) ahead; -0.5 as in Ruoss et al. 2023, the same behind. An
    offset gives each whole distance, ahead or behind, its own bias; steeper slopes on one side need not.

    No parameters. Causal and bidirectional. Claimed to keep its perplexity on texts several times as long as in
    training. Time and memory: one row of 2T - 1 numbers per head.

    Traps: the bias is added after the scaling by 1 / sqrt(D) (paper, BLOOM, MPT); Falcon scales it too. BLOOM's
    slope * j is the same after a softmax, but bfloat16 rounds it. Under a metric, tokens of text among images,
    which are at the same number on every axis, are sqrt(A) or A apart where they are neighbours; chebyshev has 1.

    Examples:
        >>> from poslab.encodings import Alibi, Positions
        >>> alibi, positions = Alibi(num_heads=8), Positions.range(3)
        >>> bias_1HTS = alibi.bias(alibi.prepare(positions, positions)).matrix()
        >>> bias_1HTS.shape
        torch.Size([1, 8, 3, 3])
        >>> bias_1HTS[0, 0, 2].tolist()  # the last query, in the first head
        [-1.0, -0.5, -0.0]

    Source: Press, Smith, Lewis, "Train Short, Test Long" (ICLR 2022), section 3; for encoders issue 5 of the authors'
    repository, and the code of Ruoss et al., "Randomized Positional Encodings" (ACL 2023); for images Fuller et al.,
    "CROMA" (NeurIPS 2023).
    """

    def __init__(
        self,
        num_heads: Count,
        max_exponent: Positive = 8.0,
        asymmetry: Asymmetry = 0.0,
        causal: bool = True,
        metric: Metric | None = None,
    ) -> None:
        super().__init__(metric)
        if metric is not None and asymmetry:
            raise ValueError(f"asymmetry must be 0 under a metric, which has no sides, got {asymmetry}")
        self.max_exponent = max_exponent
        self.num_heads = num_heads
        self.asymmetry = 0.0 if causal else asymmetry

    def slopes(self, device: torch.device) -> Tensor:
        """Return the slope of each head, (H,) float32."""
        # Made at each call: `.to(bfloat16)` would round a buffer.
        return slopes_of(slope_exponents(self.num_heads, self.max_exponent), device)

    def bias_at(self, distance: Tensor) -> Tensor:
        discounted = distance.abs().to(torch.float32)
        if self.asymmetry:
            nearer = distance < 0 if self.asymmetry > 0 else distance > 0
            # Real positions may be closer than the offset.
            discounted = torch.where(nearer, (discounted - abs(self.asymmetry)).clamp_min(0), discounted)
        return -along(self.slopes(distance.device), distance) * discounted


@checked
def alibi_grid(num_heads: Count, max_exponent: Positive = 8.0, metric: Metric = "euclidean") -> Alibi:
    """Return ALiBi on several axes: each head discounts a patch by its distance in the plane, at a fixed rate.

        logit(i, j) = q_i . k_j / sqrt(D) - slope_h * sqrt(sum_a (i_a - j_a) ** 2)

    over the axes a; the slopes are as in `Alibi`.

    Use it when images will be larger than in training and near patches matter most: nothing is learned, and no
    distance beyond the training size is special.

    Args:
        num_heads, max_exponent: as in `Alibi`.
        metric: "euclidean" as above, "manhattan" for the sum over axes, "chebyshev" for the largest.

    No parameters. Causal and bidirectional; both directions are alike. On a text, which has one axis, it is ALiBi.
    Claimed to carry over to larger images of the same scale. A token without a position has no bias. Costs a number
    for each offset that occurs and head.

    Source: Fuller et al., "CROMA: Remote Sensing Representations with Contrastive Radar-Optical Masked Autoencoders"
    (NeurIPS 2023); slopes of Press, Smith, Lewis, "Train Short, Test Long" (ICLR 2022).
    """
    return Alibi(num_heads, max_exponent, metric=metric)


def slope_exponents(num_heads: int, max_exponent: float = 8.0) -> list[float]:
    """Return the exponents of the heads h = 1, ..., H, `h * max_exponent / H`; a slope is `2 ** -exponent`.

    Where H is not a power of two, the authors' code lists the exponents of the largest power of two below H, then every
    second one of twice as many heads: 3 heads have the exponents 4, 8 and 2.
    """
    power = 2 ** (operator.index(num_heads).bit_length() - 1)
    exponents = [max_exponent * h / power for h in range(1, power + 1)]
    between = [max_exponent * h / (2 * power) for h in range(1, 2 * power + 1, 2)]
    return exponents + between[: num_heads - power]


def slopes_of(exponents: Sequence[float], device: torch.device) -> Tensor:
    """Return slopes, `2 ** -exponent`, (H,) float32."""
    return 2.0 ** -torch.tensor(exponents, device=device, dtype=torch.float32)

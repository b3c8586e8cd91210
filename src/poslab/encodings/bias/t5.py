"""T5's relative bias: one number per bucket of distances. Dimension letters: H heads."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from poslab.arguments import Count
from poslab.encodings.bias.distance_bias import DistanceBias


class T5Bias(DistanceBias):
    """T5's relative bias: one learned number per head and bucket of distances.

        logit(i, j) = q_i . k_j / sqrt(D) + sqrt(D) * table[bucket(i - j), h]

    The nearest half of the buckets have one distance each, the others grow logarithmically up to `max_distance`; all
    further distances share the last. T5 itself leaves logits unscaled, `q . k + table`; with the usual scale the factor
    sqrt(D) gives the same family of functions and lets the table learn at the learning rate of the rest.

    Use it when you train from scratch and texts may be longer than in training. It is cheap, and extrapolates where
    `max_distance` ends within the training window.

    Args:
        num_heads, head_dim: heads H and head dimension D.
        causal: True if keys are never ahead of the query; else half of the buckets are for keys ahead.
        num_buckets: number of buckets (paper: 32; even, at least 2, and a multiple of 4 in an encoder).
        max_distance: end of the logarithmic buckets, past the start of the last (paper: 128; above the exact buckets).

    Parameters: `table` (num_buckets, H), one for all layers of a stack, as in T5; UMT5 has one in each layer. Initial
    standard deviation 1 / sqrt(d_model), as in T5's code.

    Causal and bidirectional. Little is claimed beyond the training length: the bias is constant past the last bucket,
    and buckets never reached in training stay as initialised. Costs one row of 2T - 1 numbers per head, and its
    gradient.

    Traps: with 32 buckets to 128 the last begins at distance 113, in an encoder at 91, where bucket 16 is never used.
    T5's code counts key minus query. x-transformers and GPT-NeoX multiply the table by sqrt(D) too, as here; to use
    weights of T5 itself, multiply queries by sqrt(D) and divide the table by it.

    Examples:
        >>> from poslab.encodings import Positions, T5Bias
        >>> t5, positions = T5Bias(num_heads=8, head_dim=64, d_model=512), Positions.range(128)
        >>> t5.bias(t5.prepare(positions, positions)).matrix().shape  # added to the scaled logits
        torch.Size([1, 8, 128, 128])

    Source: Raffel et al., "Exploring the Limits of Transfer Learning with a Unified Text-to-Text Transformer"
    (JMLR 2020), section 2.1; edges of buckets as in T5's code.
    """

    def __init__(
        self,
        num_heads: Count,
        head_dim: Count,
        d_model: Count,
        causal: bool = True,
        num_buckets: Count = 32,
        max_distance: Count = 128,
    ) -> None:
        super().__init__()
        check_buckets(causal, num_buckets, max_distance)
        self.causal = causal
        self.num_buckets = num_buckets
        self.max_distance = max_distance
        self.logit_scale = head_dim**0.5
        self.table = nn.Parameter(torch.empty(num_buckets, num_heads))
        nn.init.normal_(self.table, std=d_model**-0.5)

    def fit(self, distance_N: Tensor, logits_HN: Tensor, weight_N: Tensor) -> None:
        """Set each bucket to the weighted mean of the logits at its distances; see `PositionalEncoding.fit`.

        A bucket without any takes the value of the nearest bucket of its side that has one, since the last that
        training has reached represents all further distances.
        """
        buckets = distance_buckets(distance_N, self.causal, self.num_buckets, self.max_distance)
        weights = torch.zeros(self.num_buckets, dtype=torch.float64, device=distance_N.device)
        weights.index_add_(0, buckets, weight_N)
        sums_HB = logits_HN.new_zeros(len(logits_HN), self.num_buckets)
        sums_HB.index_add_(1, buckets, logits_HN * weight_N)
        side = self.num_buckets if self.causal else self.num_buckets // 2
        with torch.no_grad():
            for bucket in range(self.num_buckets):
                there = range(bucket - bucket % side, bucket - bucket % side + side)
                known = [other for other in there if weights[other] > 0]
                if known:
                    nearest = min(known, key=lambda other: abs(other - bucket))
                    self.table[bucket] = sums_HB[:, nearest] / weights[nearest] / self.logit_scale

    def bias_at(self, distance: Tensor) -> Tensor:
        buckets = distance_buckets(distance, self.causal, self.num_buckets, self.max_distance)
        # A look-up of embeddings sums the gradient of each bucket deterministically.
        return nn.functional.embedding(buckets, self.table.to(torch.float32) * self.logit_scale).movedim(-1, 0)


def check_buckets(causal: bool, num_buckets: int, max_distance: int) -> None:
    """Raise ValueError for a number of buckets that cannot be shared out, or logarithmic ones that end too early."""
    multiple = 2 if causal else 4
    if num_buckets % multiple:
        raise ValueError(f"num_buckets must be a positive multiple of {multiple}, got {num_buckets}")
    exact = num_buckets // multiple
    if max_distance <= exact:
        raise ValueError(
            f"max_distance must be greater than {exact} (the number of buckets of one distance each), "
            f"got {max_distance}"
        )


def distance_buckets(distance: Tensor, causal: bool, num_buckets: int, max_distance: int) -> Tensor:
    """Return the bucket of each distance, an integer in [0, num_buckets).

    Causal, 32 buckets to 128: distances 0 to 15 have buckets 0 to 15, 16 to 18 the next, and 113 and up the last, 31.
    Keys ahead of a causal query, which are never visible, have bucket 0; in an encoder they have the upper half.
    """
    distance = distance.round().to(torch.int64)  # real positions (CAPE) have buckets too
    ahead = torch.zeros_like(distance)
    if causal:
        distance = distance.clamp_min(0)
    else:
        num_buckets //= 2
        ahead = (distance < 0) * num_buckets
        distance = distance.abs()
    exact = num_buckets // 2
    ratio = distance.clamp_min(1).to(torch.float32) / exact
    logarithmic = exact + (ratio.log() / math.log(max_distance / exact) * (num_buckets - exact)).to(torch.int64)
    return ahead + torch.where(distance < exact, distance, logarithmic.clamp_max(num_buckets - 1))

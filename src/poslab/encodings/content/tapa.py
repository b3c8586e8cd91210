"""Token-aware phase attention. Dimension letters: B batch, H heads, R query rows, S keys, D head dim."""

from __future__ import annotations

import math
from typing import Annotated

from torch import Tensor

from poslab.arguments import Range
from poslab.encodings.base import PositionalEncoding, QueryRows
from poslab.encodings.distance import TokenPairs
from poslab.encodings.positions import Positions


class Tapa(PositionalEncoding):
    """Token-aware phase attention (TAPA): part of a head says how fast the logit of two tokens rotates with distance.

        logit(i, j) = q_A . k_A / sqrt(A) * cos(2 pi |i - j| ** alpha * q_P . k_P / sqrt(P)),    A + P = D

    The first A channels of queries and keys are the amplitude, the other P the phase. No distance is favoured on
    average: only tokens decide at which distances they agree.

    Use it when a decoder should handle longer texts after a little more training, without a hyperparameter to adapt.

    Args:
        head_dim: head dimension D, at least 2.
        share: share A / D of the channels that are the amplitude, in (0, 1), rounded down (paper: 0.5).
        alpha: power of the distance, in (0, 4], at which no distance overflows (paper: 0.1).

    No parameters. Causal and bidirectional, with left and right the same. Claimed to keep its perplexity at twice the
    length that it was tuned for. Costs two products of half the width, and a cosine for each query and key, block by
    block of query rows.

    Traps: at alpha=0.1 most of the change is between neighbours: a distance of 1,000 has 2.0, 1 has 1. The authors tune
    with a fifth of the learning rate of rotary. A temperature multiplies only the amplitude. In bfloat16 the rounding
    of queries and keys moves the phase as well: logits of unit size are off by about 0.02 at alpha=0.1, eight times as
    much as under `Rotary`, and by as much as their size at alpha=1 and distances of hundreds.

    Source: Wang et al., "Positional Encoding via Token-Aware Phase Attention" (2025), equation 12.
    """

    def __init__(
        self,
        head_dim: Annotated[int, Range(at_least=2), Range(at_most=2**31 - 1)],
        share: Annotated[float, Range(above=0, below=1)] = 0.5,
        alpha: Annotated[float, Range(above=0), Range(at_least=1e-9), Range(at_most=4)] = 0.1,
    ) -> None:
        super().__init__()
        self.amplitude = int(share * head_dim)
        if not self.amplitude:
            raise ValueError(f"share must leave at least one of {head_dim} channels to the amplitude, got {share}")
        self.alpha = alpha

    def prepare(self, query_positions: Positions, key_positions: Positions) -> TokenPairs:
        return TokenPairs.between(query_positions, key_positions)

    def logits(self, q_BHRD: Tensor, k_BHSD: Tensor, rows: QueryRows) -> Tensor:
        widths = [self.amplitude, q_BHRD.shape[-1] - self.amplitude]
        amplitude, phase = (q @ k.mT for q, k in zip(q_BHRD.split(widths, -1), k_BHSD.split(widths, -1), strict=True))
        pairs: TokenPairs = rows.tables
        reach = pairs.distance(rows.rows, rows.keys).abs().to(phase.dtype) ** self.alpha
        to_amplitude = (sum(widths) / widths[0]) ** 0.5  # the scale is for D channels
        return amplitude * rows.scale * to_amplitude * (2 * math.pi * widths[1] ** -0.5 * reach * phase).cos()

"""Relative logits of Inkling.

Dimension letters: B batch, H heads, T tokens, R queries of a block, S keys, P past tokens, D head dim, M model dim,
N distances, E numbers of r.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from poslab.arguments import Count
from poslab.encodings.base import PositionalEncoding, QueryRows
from poslab.encodings.distance import TokenPairs
from poslab.encodings.numerics import float32_linear, split_heads
from poslab.encodings.positions import Positions
from poslab.encodings.relative.scores import pick


class RelativeProjection(PositionalEncoding):
    """Inkling's relative logits: each token mixes a few learned profiles of distance into its own bias.

        logit(i, j) = q_i . k_j / sqrt(D) + r_i . bank[:, i - j],    r_i = W_h x_i
        with 0 instead of the bias where i - j >= extent

    Use it when the content of a token should decide how it looks at each distance, and texts are shorter than `extent`.

    Args:
        d_model, num_heads: width M of the tokens and heads H.
        rank: number of profiles, and of numbers in r_i (Inkling: 16; at least 1).
        extent: distances from here on have no bias (Inkling: 1024, or the layer's sliding window; at least 1).

    Parameters, each layer its own: `projection.weight` (H * rank, M) and `bank` (rank, extent), shared by all heads.
    Normal at first, with standard deviation 0.02 for the bank (as in x-transformers and Inkling's code) and 1 /
    sqrt(M).

    Causal: keys ahead have no bias, so an encoder could not separate them. There is no paper, and no claim
    beyond the extent, where there is no position at all; Inkling uses a window of `extent` tokens in most layers. A
    token's state is rank numbers for each head. Costs rank products for each query, head and distance, and a gather for
    each query and key.

    Traps: the bias is added after the scale. As in Inkling, the projection has no bias, which x-transformers adds.
    Inkling normalises queries and keys and scales by 1 / D instead (`qk_norm` of a model, and a scale that these logits
    do not have). Its growth of logits with the logarithm of the position, off by default, includes this bias, unlike a
    temperature here. Real positions are rounded to a whole distance.

    Source: `InklingRelativeLogits` of transformers, the model of Thinking Machines; no paper is known.
    """

    shared_by_layers = False
    causal_only = True

    def __init__(self, d_model: Count, num_heads: Count, rank: Count = 16, extent: Count = 1024) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.extent = extent
        self.projection = nn.Linear(d_model, num_heads * rank, bias=False)
        self.bank = nn.Parameter(torch.empty(rank, extent))
        nn.init.normal_(self.projection.weight, std=d_model**-0.5)
        nn.init.normal_(self.bank, std=0.02)

    def prepare(self, query_positions: Positions, key_positions: Positions) -> TokenPairs:
        return TokenPairs.between(query_positions, key_positions)

    def state(self, x_BTM: Tensor, positions: Positions, past_BHPE: Tensor | None) -> Tensor:
        """Return r of each head at each new token, in float32."""
        return split_heads(float32_linear(x_BTM, self.projection.weight), self.num_heads)

    def logits(self, q_BHRD: Tensor, k_BHSD: Tensor, rows: QueryRows) -> Tensor:
        assert rows.query_state is not None
        pairs: TokenPairs = rows.tables
        distance = pairs.whole_distance(rows.rows, rows.keys)
        scores_BHRN = rows.query_state.to(q_BHRD.dtype) @ self.bank.to(q_BHRD.dtype)
        bias_BHRS = pick(scores_BHRN, distance.clamp(0, self.extent - 1))
        bias_BHRS = bias_BHRS.masked_fill((distance < 0) | (distance >= self.extent), 0.0)
        return super().logits(q_BHRD, k_BHSD, rows) + bias_BHRS

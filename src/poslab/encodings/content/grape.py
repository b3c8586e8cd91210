"""GRAPE's additive biases by content.

Dimension letters: B batch, H heads, T queries, R query rows of a block, S keys, D head dim.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from poslab.arguments import Count, Positive
from poslab.encodings.base import PositionalEncoding, QueryRows
from poslab.encodings.bias.alibi import slope_exponents, slopes_of
from poslab.encodings.distance import TokenPairs
from poslab.encodings.positions import Positions


class GrapeA(PositionalEncoding):
    """GRAPE-A: ALiBi whose slopes the query and the key choose.

        logit(i, j) = q_i . k_j / sqrt(D) - (i - j) softplus(w_h) m_h (a_h(q_i) + b_h(k_j))
        a_h(q) = softplus(v_h . q / (|v_h| sqrt(D))),    b_h(k) = softplus(u_h . k / (|u_h| sqrt(D)))

    with the slopes m_h of ALiBi: a query says how near it looks, a key how soon it fades.

    Use it when a decoder should extrapolate as ALiBi does, and decide by content what to discount. Its authors
    normalise queries and keys (`model.qk_norm=true`).

    Args:
        num_heads, head_dim: H and D.
        max_exponent: exponent of the slope of the last head, as in `Alibi` (8; positive).
        gates: "both" as above, "query" or "key" without the other term (paper: all three).

    Parameters, each layer its own: `strength` w (H), whose softplus begins at 1, `query_direction` v and
    `key_direction` u (H, D), initially normal with standard deviation 1 / sqrt(D), as far as the gates read them.

    Causal only, and relative. Costs one number for each query and key, as FoX does. The paper claims a lower loss than
    ALiBi's and FoX's; its best form is `GrapeAP`. A temperature leaves the bias unchanged.

    Source: "Group Representational Position Encoding" (ICLR 2026, arXiv 2512.07805), section 4, equation 4.6, and its
    code.
    """

    shared_by_layers = False
    causal_only = True

    def __init__(
        self,
        num_heads: Count,
        head_dim: Count,
        max_exponent: Positive = 8.0,
        gates: Literal["both", "query", "key"] = "both",
    ) -> None:
        super().__init__()
        self.exponents = slope_exponents(num_heads, max_exponent)
        self.strength = nn.Parameter(torch.full((num_heads,), math.log(math.e - 1)))
        directions = [nn.Parameter(torch.randn(num_heads, head_dim) * head_dim**-0.5) for _ in range(2)]
        self.query_direction = None if gates == "key" else directions[0]
        self.key_direction = None if gates == "query" else directions[1]

    def learned(self) -> dict[str, Tensor]:
        """Return the slopes softplus(w) m and the directions of length 1."""
        slopes = slopes_of(self.exponents, self.strength.device)
        learned = {"slopes": functional.softplus(self.strength.to(torch.float32)) * slopes}
        for name, direction in (("query", self.query_direction), ("key", self.key_direction)):
            if direction is not None:
                learned[f"{name}_direction"] = functional.normalize(direction.to(torch.float32), dim=-1)
        return learned

    def prepare(self, query_positions: Positions, key_positions: Positions) -> TokenPairs:
        return TokenPairs.between(query_positions, key_positions)

    def logits(self, q_BHRD: Tensor, k_BHSD: Tensor, rows: QueryRows) -> Tensor:
        pairs: TokenPairs = rows.tables
        learned = {name: x.to(q_BHRD.dtype) for name, x in self.learned().items()}
        gate = q_BHRD.new_zeros(1)
        if "query_direction" in learned:
            gate = gate + _gate(q_BHRD, learned["query_direction"])
        if "key_direction" in learned:
            gate = gate + _gate(k_BHSD, learned["key_direction"]).mT
        distance_BHRS = pairs.distance(rows.rows, rows.keys).to(q_BHRD.dtype)
        return super().logits(q_BHRD, k_BHSD, rows) - distance_BHRS * learned["slopes"].view(-1, 1, 1) * gate


def _gate(x_BHTD: Tensor, direction_HD: Tensor) -> Tensor:
    """Return softplus(direction . x / sqrt(D)), (B, H, T, 1)."""
    return functional.softplus(x_BHTD @ direction_HD.unsqueeze(-1) * x_BHTD.shape[-1] ** -0.5)

"""GRAPE's path integral of gates.

Dimension letters: B batch, H heads, T tokens, R query rows of a block, S keys, P past tokens, D head dim, M model dim,
W width of the gates, E = 2 W.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from poslab.arguments import Count, Positive
from poslab.encodings.base import PositionalEncoding, QueryRows
from poslab.encodings.bias.alibi import slope_exponents, slopes_of
from poslab.encodings.numerics import float32_linear, split_heads
from poslab.encodings.positions import Positions
from poslab.encodings.rotary.rotation import rotate_half_split


class GrapeAP(PositionalEncoding):
    """GRAPE-AP: ALiBi that adds up a gate for each token on the way, which the query and that token open.

        logit(i, j) = q_i . k_j / sqrt(D) + m_h (psi(i, j + 1) + ... + psi(i, i))
        psi(i, l) = ln sigmoid(p_i . R(l) norm(p_l) / W),    p_t = A_h x_t

    with the slopes m_h of ALiBi; norm divides by the root mean square, and R(l) rotates all channel pairs
    (m, m + W / 2) by -l radians. A gate that is always half open is ALiBi with ln 2 of its slopes. In `Forgetting` a
    token's gate is the same for all queries.

    Use it when a decoder should extrapolate as ALiBi does, and each query should decide which tokens make others far.
    Its authors normalise queries and keys (`model.qk_norm=true`).

    Args:
        d_model, num_heads: M and H.
        width: number W of channels of p, even (authors: 8).
        max_exponent: exponent of the slope of the last head, as in `Alibi` (8; positive).

    Parameters: `projection.weight` A (H W, M) in each layer, initially normal with standard deviation 1 / (2 sqrt(M)).

    Causal only, and not relative: R rotates only keys, by their position. The paper's best form in its comparison,
    above `GrapeA`, FoX and rotary. A token's state is 2 W numbers for each head. Costs a product of width W for each
    query and key next to the product of width D, and a cumulative sum over keys.

    Traps: the gate of the query itself counts, the gate of the key does not; in x-transformers'
    PerRowDataDependentAlibi it is the other way round. p is normalised only on the side of the token on the way. Tokens
    that the query does not see (padding, other documents) add nothing. A temperature leaves the bias unchanged.

    Source: "Group Representational Position Encoding" (ICLR 2026, arXiv 2512.07805), section 5, equations 5.1 and 5.2,
    and its code.
    """

    shared_by_layers = False
    causal_only = True
    relative = False

    def __init__(self, d_model: Count, num_heads: Count, width: Count = 8, max_exponent: Positive = 8.0) -> None:
        super().__init__()
        if width % 2:
            raise ValueError(f"width must be even, got {width}")
        self.num_heads = num_heads
        self.width = width
        self.exponents = slope_exponents(num_heads, max_exponent)
        self.projection = nn.Linear(d_model, num_heads * width, bias=False)
        nn.init.normal_(self.projection.weight, std=0.5 * d_model**-0.5)

    def state(self, x_BTM: Tensor, positions: Positions, past_BHPE: Tensor | None) -> Tensor:
        """Return p of each new token, and p as tokens on the way have it, (B, H, T, 2 W)."""
        p_BHTW = split_heads(float32_linear(x_BTM, self.projection.weight), self.num_heads)
        angle = positions.ids_for_heads[..., -x_BTM.shape[1] :, None].to(torch.float32)
        cos, sin = (x.expand(*x.shape[:-1], self.width // 2) for x in (angle.cos(), angle.sin()))
        turned_BHTW = rotate_half_split(functional.rms_norm(p_BHTW, (self.width,)), cos, -sin)
        return torch.cat([p_BHTW, turned_BHTW], dim=-1)

    def content_positions(self, q_BHRD: Tensor, k_BHSD: Tensor, rows: QueryRows) -> Tensor:
        """Return the sum of gates between key and query without its sign, -m (psi(i, j + 1) + ... + psi(i, i))."""
        assert rows.query_state is not None and rows.key_state is not None
        p_BHRW = rows.query_state[..., : self.width].to(q_BHRD.dtype)
        turned_BHSW = rows.key_state[..., self.width :].to(q_BHRD.dtype)
        psi_BHRS = functional.logsigmoid(p_BHRW @ turned_BHSW.mT / self.width)
        if rows.visible is not None:
            psi_BHRS = psi_BHRS.masked_fill(~rows.visible, 0.0)
        # Summed from the query back, so that near keys lose no precision to far ones, and shifted past the key itself.
        sums_BHRS = functional.pad(psi_BHRS.flip(-1).cumsum(-1).flip(-1)[..., 1:], (0, 1))
        return sums_BHRS * -slopes_of(self.exponents, psi_BHRS.device).view(-1, 1, 1)

    def logits(self, q_BHRD: Tensor, k_BHSD: Tensor, rows: QueryRows) -> Tensor:
        return super().logits(q_BHRD, k_BHSD, rows) - self.content_positions(q_BHRD, k_BHSD, rows)

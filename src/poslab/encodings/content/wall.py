"""Wall attention: channels that fade by content.

Dimension letters: B batch, H heads, T tokens, R query rows, S keys, P past tokens, D head dim, M model dim, E = D.
"""

from __future__ import annotations

from typing import Annotated

import torch
from torch import Tensor
from torch.nn import functional

from poslab.arguments import NOT_EXTREME, Count
from poslab.encodings.base import PositionalEncoding, QueryRows
from poslab.encodings.content.forgetting import forget_gate
from poslab.encodings.numerics import float32_linear, split_heads
from poslab.encodings.positions import Positions

CHUNK = 16
"""Queries that share an anchor, from which decays are counted. Changes only the cost."""


class Wall(PositionalEncoding):
    """Wall attention: each token on the way makes each channel of a head fade, as it decides.

        logit(i, j) = sum_n q_in k_jn f_{j+1,n} ... f_{i,n} / sqrt(D),    f_t = sigmoid(W_h x_t + b_h)

    FoX with a gate for each channel, in the product instead of next to it: a logit fades towards 0, not to minus
    infinity. With constant gates it is xPos without the rotation.

    Use it when a decoder should decide by content how long each of its channels remembers.

    Args:
        d_model, num_heads, head_dim: width M of the tokens, heads H and head dimension D.
        gate_bias: initial b_h (authors: 8, which fades by 1 in 3,000 per token), usually 2 to 8.

    Parameters: `gate` in each layer, with `weight` (H D, M), initially normal with standard deviation 1 / sqrt(M), and
    `bias` (H D).

    Causal. A token's state is D numbers for each query head, so that the cache is up to three times as large. Decays
    are counted from the first of 16 queries on, so that no factor exceeds 1, and nothing overflows however fast a
    channel fades: costs the product of queries and keys, and an exponential of S D numbers for every 16 queries. Keys
    among the 16 are taken pair by pair.

    Traps: sums of gates are float64, as in `Forgetting`. Keys that no query of the block sees (padding, other
    documents) do not enter them. Left out: the scalar gate, which is FoX's, and the output gate.

    Source: Averbuch, Pai (Tilde Research), wall attention in flash-linear-attention 0.6; no paper is known.
    """

    shared_by_layers = False
    causal_only = True

    def __init__(
        self, d_model: Count, num_heads: Count, head_dim: Count, gate_bias: Annotated[float, NOT_EXTREME] = 8.0
    ) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.gate = forget_gate(d_model, num_heads * head_dim, gate_bias)

    def state(self, x_BTM: Tensor, positions: Positions, past_BHPE: Tensor | None) -> Tensor:
        """Return the logarithm of the gate of each channel at each new token, (B, H, T, D)."""
        log_gates = functional.logsigmoid(float32_linear(x_BTM, self.gate.weight, self.gate.bias))
        return split_heads(log_gates, self.num_heads)

    def logits(self, q_BHRD: Tensor, k_BHSD: Tensor, rows: QueryRows) -> Tensor:
        assert rows.key_state is not None
        gates_BHSD = rows.key_state
        if rows.visible is not None:
            gates_BHSD = gates_BHSD.masked_fill(~rows.visible.any(dim=-2).unsqueeze(-1), 0.0)
        sums_BHSD = gates_BHSD.cumsum(2, dtype=torch.float64)
        chunks = [
            _faded_products(q_BHCD, k_BHSD, sums_BHSD, rows.first_key + start)
            for start, q_BHCD in zip(range(0, q_BHRD.shape[2], CHUNK), q_BHRD.split(CHUNK, dim=2), strict=True)
        ]
        return torch.cat(chunks, dim=2) * rows.scale


def _faded_products(q_BHCD: Tensor, k_BHSD: Tensor, sums_BHSD: Tensor, first_key: int) -> Tensor:
    """Return sum_n q_in k_jn exp(P_in - P_jn), (B, H, C, S), for queries at the keys from `first_key` on.

    P is the running sum of log gates, which falls. Keys ahead of all queries get 0.
    """
    queries = slice(first_key, first_key + q_BHCD.shape[2])
    sums_BHCD, anchor = sums_BHSD[:, :, queries], sums_BHSD[:, :, first_key : first_key + 1]
    faded_q = q_BHCD * (sums_BHCD - anchor).exp().to(q_BHCD.dtype)
    faded_k = k_BHSD[:, :, :first_key] * (anchor - sums_BHSD[:, :, :first_key]).exp().to(k_BHSD.dtype)
    between = (sums_BHCD.unsqueeze(3) - sums_BHCD.unsqueeze(2)).clamp(max=0).exp().to(q_BHCD.dtype)
    among = (q_BHCD.unsqueeze(3) * k_BHSD[:, :, queries].unsqueeze(2) * between).sum(-1)
    return functional.pad(torch.cat([faded_q @ faded_k.mT, among], dim=-1), (0, k_BHSD.shape[2] - queries.stop))

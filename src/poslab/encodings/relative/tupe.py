"""Untied positions. Dimension letters: B batch, H heads, T queries, S keys, R query rows, D head dim, M model dim."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from poslab.arguments import Count
from poslab.encodings.base import PositionalEncoding, QueryRows
from poslab.encodings.bias.t5 import T5Bias
from poslab.encodings.offsets import LogitBias
from poslab.encodings.positions import Positions
from poslab.encodings.shape import TableShape


class UntiedPositions(NamedTuple):
    """Projected positions, (1 or B, H, T, D) scaled and (1 or B, H, S, D), float32, and the relative bias, if any."""

    queries: Tensor
    keys: Tensor
    relative_bias: LogitBias | None

    @property
    def expected_shape(self) -> TableShape:
        return TableShape.of(self.queries, self.keys)


class Tupe(PositionalEncoding):
    """TUPE: positions correlate with positions and content with content, each with its own projections.

        logit(i, j) = q_i . k_j / sqrt(2 D) + (LN(p_i) U_Q) . (LN(p_j) U_K) / sqrt(2 D) [+ sqrt(D) * t[bucket(i - j)]]

    The part in brackets is T5's bias: TUPE-R has it, TUPE-A has not.

    Use it when an encoder is trained at one length: positions and words have separate logits. It is undefined
    beyond `max_length`.

    Args:
        d_model, num_heads, head_dim: width M, heads H and head dimension D.
        causal: True if keys are never ahead of the query; only the buckets depend on it.
        max_length: number of positions with a vector, none is defined past it (the authors: 256 to 512; at least 1).
        num_buckets: number of buckets of T5's bias (TUPE-R: 32; as in `T5Bias`); None is TUPE-A.
        max_distance: end of the logarithmic buckets, so the last begins somewhat before (TUPE-R: 128; as in `T5Bias`).

    Parameters: `table` p (max_length, M), initial standard deviation 1; `norm`; `position_query` and `position_key`
    U (H, M, D), initially 1 / sqrt(M); `relative_bias.table`; all of them once for all layers, as in the paper. The
    authors start p at 0.02, but behind a LayerNorm only its ratio to the learning rate counts, which is higher here.

    Causal and bidirectional. Positions are absolute, so it ends at max_length. Costs one more product of the size of
    q . k per layer, one for the whole batch, and T + S projections per forward pass.

    Traps: content too is scaled by 1 / sqrt(2 D). The paper unties [CLS] from positions, overwriting its row and
    column with two learned numbers per head; that is left out, since no token here is [CLS] (in a causal decoder the
    row would mean nothing). The authors' projections have a bias; the paper's formula, followed here, has none. T5's
    bias is multiplied by sqrt(D), as in `T5Bias`: the same family of functions.

    Raises:
        ValueError: for an argument out of its range, or for a position at or past `max_length`.

    Source: Ke, He, Liu, "Rethinking Positional Encoding in Language Pre-training" (ICLR 2021), sections 3.1 and 3.3.
    """

    relative = False

    def __init__(
        self,
        d_model: Count,
        num_heads: Count,
        head_dim: Count,
        causal: bool = True,
        max_length: Count = 512,
        num_buckets: Count | None = None,
        max_distance: Count = 128,
    ) -> None:
        super().__init__()
        self.max_length = max_length
        self.table = nn.Parameter(torch.empty(max_length, d_model))
        self.norm = nn.LayerNorm(d_model)
        self.position_query = nn.Parameter(torch.empty(num_heads, d_model, head_dim))
        self.position_key = nn.Parameter(torch.empty(num_heads, d_model, head_dim))
        nn.init.normal_(self.table)
        for weight in (self.position_query, self.position_key):
            nn.init.normal_(weight, std=d_model**-0.5)
        self.relative_bias = (
            None if num_buckets is None else T5Bias(num_heads, head_dim, d_model, causal, num_buckets, max_distance)
        )

    def prepare(self, query_positions: Positions, key_positions: Positions) -> UntiedPositions:
        with torch.autocast(self.table.device.type, enabled=False):
            keys = self._vectors(key_positions) @ self.position_key.float()
            queries = self._vectors(query_positions) @ self.position_query.float()
        relative_bias = None
        if self.relative_bias is not None:
            relative_bias = self.relative_bias.prepare(query_positions, key_positions)
        return UntiedPositions(queries * (2 * queries.shape[-1]) ** -0.5, keys, relative_bias)

    def scale(self, tables: UntiedPositions) -> float:
        return 2**-0.5

    def pair_bias(self, rows: QueryRows) -> Tensor:
        tables: UntiedPositions = rows.tables
        bias_BHRS = tables.queries[..., rows.rows, :] @ tables.keys[..., rows.keys, :].transpose(-2, -1)
        if tables.relative_bias is None:
            return bias_BHRS
        return bias_BHRS + tables.relative_bias.matrix(rows.rows, rows.keys)

    def _vectors(self, positions: Positions) -> Tensor:
        """Return LN(p) at each position, (1 or B, 1, T, M) float32."""
        positions.require_below(len(self.table), "positions of TUPE")
        # Real positions (CAPE) have the vector of the nearest one; those at an end may round to a row past the table.
        ids = positions.ids.round().long().clamp(0, len(self.table) - 1)
        p = functional.embedding(ids if ids.dim() == 2 else ids.unsqueeze(0), self.table.float()).unsqueeze(1)
        return functional.layer_norm(p, p.shape[-1:], self.norm.weight.float(), self.norm.bias.float(), self.norm.eps)

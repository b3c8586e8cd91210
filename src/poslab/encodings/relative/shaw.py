"""Shaw's relative vectors. Dimension letters: B batch, H heads, R query rows, S keys, D head dim, N distances."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from poslab.arguments import Count
from poslab.encodings.base import PositionalEncoding, QueryRows
from poslab.encodings.distance import TokenPairs
from poslab.encodings.positions import Positions
from poslab.encodings.relative.scores import pick
from poslab.encodings.shape import VectorTable


class Shaw(PositionalEncoding):
    """Relative position representations: a learned vector per clipped distance is added to each key and each value.

        logit(i, j) = q_i . (k_j + a_K[c]) / sqrt(D)
        output(i)   = sum_j weight(i, j) * (v_j + a_V[c]),    c = clip(j - i, -k, k) + k

    with k = max_distance. Only the logits are scaled, not the vectors that are added to the values.

    Use it when order within a few tokens matters, as in translation. All distances beyond `max_distance` are one.

    Args:
        head_dim: head dimension D.
        max_distance: keys further than this, on either side, share a vector (paper: 16; in its ablation in machine
            translation, 2 and more do about as well; at least 1).

    Parameters: `key_table` and `value_table` (2 max_distance + 1, D) in each layer, for all its heads, as in
    Tensor2Tensor; initial standard deviation 1 / sqrt(D). A causal model never trains the rows of keys ahead.

    Causal and bidirectional. Past the training length every distance beyond `max_distance` has the vectors that it had
    in training; nothing else is claimed. Costs 2 (2 max_distance + 1) D products per query and head, a gather and a
    scatter of logits and weights; needs the weights themselves, so no fused attention.

    Traps: the paper's sign is key minus query. VITS gives zero to distances outside its window, where the paper clips.

    Source: Shaw, Uszkoreit, Vaswani, "Self-Attention with Relative Position Representations" (NAACL 2018), section 3.
    """

    shared_by_layers = False

    def __init__(self, head_dim: Count, max_distance: Count = 16) -> None:
        super().__init__()
        self.max_distance = max_distance
        self.key_table = nn.Parameter(torch.empty(2 * max_distance + 1, head_dim))
        self.value_table = nn.Parameter(torch.empty(2 * max_distance + 1, head_dim))
        for table in (self.key_table, self.value_table):
            nn.init.normal_(table, std=head_dim**-0.5)

    def vectors(self) -> dict[str, VectorTable]:
        first = -self.max_distance
        return {"keys": VectorTable(self.key_table, first), "values": VectorTable(self.value_table, first)}

    def prepare(self, query_positions: Positions, key_positions: Positions) -> TokenPairs:
        return TokenPairs.between(query_positions, key_positions)

    def logits(self, q_BHRD: Tensor, k_BHSD: Tensor, rows: QueryRows) -> Tensor:
        scores_BHRN = q_BHRD @ self.key_table.to(q_BHRD.dtype).T
        return super().logits(q_BHRD, k_BHSD, rows) + pick(scores_BHRN, self._table_row(rows)) * rows.scale

    def values(self, weights_BHRS: Tensor, v_BHSD: Tensor, rows: QueryRows) -> Tensor:
        # Weights of all keys at one clipped distance are summed before they meet its vector: no T x S x D.
        index = self._table_row(rows).expand_as(weights_BHRS)
        weights_BHRN = weights_BHRS.new_zeros(*weights_BHRS.shape[:-1], len(self.value_table))
        weights_BHRN = weights_BHRN.scatter_add(-1, index, weights_BHRS)
        return super().values(weights_BHRS, v_BHSD, rows) + weights_BHRN @ self.value_table.to(weights_BHRS.dtype)

    def _table_row(self, rows: QueryRows) -> Tensor:
        pairs: TokenPairs = rows.tables
        ahead = -pairs.whole_distance(rows.rows, rows.keys)
        return ahead.clamp(-self.max_distance, self.max_distance) + self.max_distance

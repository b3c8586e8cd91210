"""The Music Transformer. Dimension letters: B batch, H heads, R query rows, S keys, D head dim, N distances."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from poslab.arguments import Count
from poslab.encodings.base import PositionalEncoding, QueryRows
from poslab.encodings.distance import TokenPairs
from poslab.encodings.positions import Positions
from poslab.encodings.relative.scores import pick, skew
from poslab.encodings.shape import TableShape, VectorTable


class MusicTables(NamedTuple):
    """TokenPairs, and True if their distances are those in storage, so that skewing finds them."""

    pairs: TokenPairs
    by_distance: bool

    @property
    def expected_shape(self) -> TableShape:
        return self.pairs.expected_shape


class MusicTransformer(PositionalEncoding):
    """Relative global attention: each head has a learned vector for every distance back, which its queries meet.

        logit(i, j) = q_i . (k_j + E_h[min(i - j, N - 1)]) / sqrt(D)

    with N = num_distances. Products of all queries with all vectors are skewed to their keys, in T x S numbers where a
    vector for each pair would need T x S x D.

    Use it when each distance should have its own vector and texts are short, as in music.

    Args:
        num_heads, head_dim: heads H and head dimension D.
        num_distances: distances 0 to num_distances - 1 have a vector each, and further ones share the last (paper: the
            length of the training sequences; at least 1). Vectors beyond the training length stay untrained, and longer
            texts meet them.

    Parameters: `table` (H, num_distances, D) in each layer; initial standard deviation 1 / sqrt(D), as in
    Tensor2Tensor.

    Causal only: keys ahead have no vector. Distances past num_distances are clipped, as in Shaw. If num_distances is
    the training length, few pairs train the last vector, so a smaller one may extrapolate better. The paper leaves this
    open; Tensor2Tensor gives zero to distances past its table. Costs one more product of the size of q . k.

    Trap: the paper's skewing leaves meaningless numbers above the diagonal; here they are zero (and still masked).

    Source: Huang et al., "Music Transformer" (ICLR 2019), section 3.4.
    """

    shared_by_layers = False
    causal_only = True
    bidirectional_form = "shaw"

    def __init__(self, num_heads: Count, head_dim: Count, num_distances: Count = 512) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.empty(num_heads, num_distances, head_dim))
        nn.init.normal_(self.table, std=head_dim**-0.5)

    def vectors(self) -> dict[str, VectorTable]:
        return {f"distances, head {head}": VectorTable(table_ND) for head, table_ND in enumerate(self.table)}

    def prepare(self, query_positions: Positions, key_positions: Positions) -> MusicTables:
        by_distance = query_positions.contiguous and key_positions.contiguous
        by_distance = by_distance and query_positions.stop == key_positions.stop  # attention of a text to itself
        return MusicTables(TokenPairs.between(query_positions, key_positions), by_distance)

    def logits(self, q_BHRD: Tensor, k_BHSD: Tensor, rows: QueryRows) -> Tensor:
        tables: MusicTables = rows.tables
        table_HND = self.table.to(q_BHRD.dtype)
        if tables.by_distance:
            furthest = rows.first_key + q_BHRD.shape[-2] - 1
            scores_BHRS = skew(q_BHRD @ _descending(table_HND, furthest).mT, k_BHSD.shape[-2])
        else:
            index = tables.pairs.whole_distance(rows.rows, rows.keys).clamp(0, table_HND.shape[1] - 1)
            scores_BHRS = pick(q_BHRD @ table_HND.transpose(-2, -1), index)
        return super().logits(q_BHRD, k_BHSD, rows) + scores_BHRS * rows.scale


def _descending(table_HND: Tensor, furthest: int) -> Tensor:
    """Return the vectors of the distances `furthest`, ..., 1, 0, (H, furthest + 1, D)."""
    nearest = table_HND[:, : furthest + 1].flip(1)
    # A view of the last vector has a plain sum as its gradient; an index would add it up in any order on a GPU.
    further = nearest[:, :1].expand(-1, furthest + 1 - nearest.shape[1], -1)
    return torch.cat([further, nearest], dim=1)

"""DeBERTa's disentangled attention.

Dimension letters: B batch, H heads, R query rows, S keys, D head dim, M model dim, N rows of the table.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from poslab.arguments import Count
from poslab.encodings.base import PositionalEncoding, QueryRows
from poslab.encodings.distance import TokenPairs
from poslab.encodings.numerics import is_traced
from poslab.encodings.positions import Positions
from poslab.encodings.relative.scores import pick
from poslab.encodings.shape import TableShape


class PositionKeysAndQueries(NamedTuple):
    """P W_K and P W_Q of each head, (H, N, D) float32, and the pairs whose distances select among their N rows."""

    keys: Tensor
    queries: Tensor
    pairs: TokenPairs

    @property
    def expected_shape(self) -> TableShape:
        return self.pairs.expected_shape


class Deberta(PositionalEncoding):
    """Disentangled attention: content meets position both ways, each with its own projections.

        logit(i, j) = [q_i . k_j + q_i . K_r(delta(i, j)) + k_j . Q_r(delta(i, j))] / sqrt(3 D)
        K_r = P W_K,  Q_r = P W_Q,  delta(i, j) = clip(bucket(i - j) + n, 0, 2n - 1)

    Version 1 has a row for each distance, bucket(d) = d and n = max_distance; versions 2 and 3 have n = num_buckets,
    one row for each distance up to n / 2, and logarithmic ones from there to max_distance.

    Use it when you train an encoder of the BERT kind and have the time: words meet distances in both directions.

    Args:
        d_model, num_heads, head_dim: width M, heads H and head dimension D.
        max_distance: distances from about here on share a row, on either side (paper: 512; at least 1, and with buckets
            more than num_buckets / 2 + 1).
        num_buckets: number n of rows on either side (versions 2 and 3: 256; even, at least 4); None for version 1:
            n = max_distance and no buckets.

    Parameters, in each layer: `table` P (2n, M), initial standard deviation 1; `position_key` and `position_query`
    (H, M, D), initially 1 / sqrt(M). DeBERTa shares P between layers; an instance here is for either one layer or all.
    With its initial 0.02 for all three, positions would hardly count in a short run; version 2 normalises P.

    Bidirectional as in the paper, and causal under a causal mask, where half of the rows stay as initialised. Past the
    training length, distances up to max_distance have rows that were never trained, without a claim. Costs two
    products of T and S with 2n rows and two gathers of T x S per layer, and a projection of P in each forward pass.

    Traps: the paper writes Q_r(delta(j, i)), with the opposite distance. The authors' code and transformers, and so all
    released models, use the row of delta(i, j) for both terms (they negate, and then transpose), as here. The three
    terms have one scale, 1 / sqrt(3 D), which leaving out a term would change. Buckets grow past n, so the clip
    matters. The sides differ: -n has a row and n has not. Version 2 may also project P with the weights of the content
    and normalise it, and adds biases to the projections; these are left out, as in the paper.

    Source: He et al., "DeBERTa: Decoding-enhanced BERT with Disentangled Attention" (ICLR 2021), section 3.1;
    buckets as in the authors' code of version 2.
    """

    shared_by_layers = False

    def __init__(
        self,
        d_model: Count,
        num_heads: Count,
        head_dim: Count,
        max_distance: Count = 512,
        num_buckets: Count | None = 256,
    ) -> None:
        super().__init__()
        if num_buckets is not None and (num_buckets < 4 or num_buckets % 2):
            raise ValueError(f"num_buckets must be even and at least 4, or null, got {num_buckets}")
        least = 1 if num_buckets is None else num_buckets // 2 + 2
        if max_distance < least:
            raise ValueError(f"max_distance must be at least {least}, got {max_distance}")
        self.max_distance = max_distance
        self.num_buckets = num_buckets
        self.span = max_distance if num_buckets is None else num_buckets
        self.table = nn.Parameter(torch.empty(2 * self.span, d_model))
        self.position_key = nn.Parameter(torch.empty(num_heads, d_model, head_dim))
        self.position_query = nn.Parameter(torch.empty(num_heads, d_model, head_dim))
        nn.init.normal_(self.table)
        for weight in (self.position_key, self.position_query):
            nn.init.normal_(weight, std=d_model**-0.5)

    def prepare(self, query_positions: Positions, key_positions: Positions) -> PositionKeysAndQueries:
        with torch.autocast(self.table.device.type, enabled=False):
            table = self.table.float()
            keys_HND, queries_HND = (table @ weight.float() for weight in (self.position_key, self.position_query))
        return PositionKeysAndQueries(keys_HND, queries_HND, TokenPairs.between(query_positions, key_positions))

    def scale(self, tables: PositionKeysAndQueries) -> float:
        return 3**-0.5

    def logits(self, q_BHRD: Tensor, k_BHSD: Tensor, rows: QueryRows) -> Tensor:
        tables: PositionKeysAndQueries = rows.tables
        distance = tables.pairs.whole_distance(rows.rows, rows.keys)
        if self.num_buckets is not None:
            distance = log_buckets(distance, self.num_buckets, self.max_distance)
        row = (distance + self.span).clamp(0, 2 * self.span - 1)
        if rows.visible is not None:
            row = row.masked_fill(~rows.visible, self.span)
        # Only the rows that these queries and visible keys need: at most half of them for a causal block. Finding them
        # reads a tensor, which would break a compiled graph and a transform of torch.func; these have all rows.
        first, last = (0, 2 * self.span - 1) if is_traced() else (int(end) for end in row.aminmax())
        row = row - first
        keys_HND, queries_HND = (x[:, first : last + 1].to(q_BHRD.dtype) for x in (tables.keys, tables.queries))
        content_to_position = pick(q_BHRD @ keys_HND.transpose(-2, -1), row)
        scores_BHNS = queries_HND @ k_BHSD.transpose(-2, -1)
        position_to_content = scores_BHNS.gather(-2, row.expand(*scores_BHNS.shape[:2], -1, -1))
        return (q_BHRD @ k_BHSD.transpose(-2, -1) + content_to_position + position_to_content) * rows.scale


def log_buckets(distance: Tensor, num_buckets: int, max_distance: int) -> Tensor:
    """Return the bucket of each distance, int64, with the sign of the distance; not clipped.

    With 256 buckets to 512, distances up to 128 are their own bucket, 511 has bucket 255 and 600 has 270.
    """
    exact = num_buckets // 2
    # All in float32, as in the authors' code: rounding up depends on the last bit at the edges, first max_distance - 1.
    ratio = distance.abs().clamp_min(exact).float() / exact
    growth = ratio.log() / ratio.new_tensor((max_distance - 1) / exact).log()
    far = (growth * (exact - 1)).ceil().long() + exact
    return torch.where(distance.abs() <= exact, distance, far * distance.sign())

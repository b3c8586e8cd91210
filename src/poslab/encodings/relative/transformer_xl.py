"""Transformer-XL's relative attention.

Dimension letters: B batch, H heads, T queries, S keys, R queries of a block, D head dim, M model dim, N distances.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from poslab.arguments import Count
from poslab.encodings.base import PositionalEncoding, QueryRows
from poslab.encodings.distance import TokenPairs
from poslab.encodings.frequencies import Base, angle_dtype, angles, inverse_frequencies
from poslab.encodings.positions import Positions
from poslab.encodings.relative.scores import skew
from poslab.encodings.shape import TableShape


class KeysByDistance(NamedTuple):
    """W_R r of all distances of a query and a key, the largest first, (H, N, D) float32.

    The first distance is from the last query to the first key, S - 1 in storage.
    """

    keys: Tensor
    expected_shape: TableShape


class SinusoidsByPosition(NamedTuple):
    """Sines and cosines of the angles of queries and keys, (1, T, M / 2) or (B, 1, T, M / 2) float32.

    `limit` is r at the distances max_distance and -max_distance, (2, M); None if distances are not clipped.
    """

    query_sin: Tensor
    query_cos: Tensor
    key_sin: Tensor
    key_cos: Tensor
    pairs: TokenPairs
    limit: Tensor | None

    @property
    def expected_shape(self) -> TableShape:
        return self.pairs.expected_shape


class TransformerXL(PositionalEncoding):
    """Transformer-XL's relative attention: a query meets a sinusoid of the distance, projected as a separate key.

        logit(i, j) = [(q_i + u_h) . k_j + (q_i + v_h) . W_R,h r(i - j)] / sqrt(D)
        r(d)        = [sin(d w_0), ..., sin(d w_{M/2-1}), cos(d w_0), ...],    w_m = base ** (-2m / M)

    Use it when you want distances without end that meet content in the logits, and can afford a projection for each.

    Args:
        d_model, num_heads, head_dim: width M of the sinusoids (even), heads H and head dimension D.
        causal: True if keys are never ahead of the query; else their distances are negative.
        base: the longest wavelength is nearly 2 pi base (paper: 10,000; above 1).
        max_distance: further distances, on either side, share its sinusoid (`clamp_len` of the authors' code; at least
            1); None never clips (paper: None in training; the authors set it when they evaluate on longer contexts).

    Parameters: `content_bias` u and `position_bias` v (H, D), initially zero mean with standard deviation 0.02, and
    `position_key` W_R (H, M, D), initially 1 / sqrt(M), in each layer. The authors' PyTorch code shares u and v between
    layers, XLNet does not; here each layer has its own.

    Causal and bidirectional. Defined at any distance; the paper claims attention to contexts longer than in
    training, with its memory. Sinusoids of distances never seen are not clipped unless `max_distance` is set. Costs one
    more product of the size of q . k (twice that if bidirectional) and T + S projections of a sinusoid per layer,
    shared by the batch. Positions that are not contiguous, and single queries as in decoding, cost H times as much per
    pair instead, without any table of distances.

    Traps: all terms share one scale. XLNet's sinusoids run from distance S down to 1 - T, one more than there are.

    Source: Dai et al., "Transformer-XL" (ACL 2019), section 3.3; halves of sines and cosines as in the authors' code.
    """

    shared_by_layers = False

    def __init__(
        self,
        d_model: Count,
        num_heads: Count,
        head_dim: Count,
        causal: bool = True,
        base: Base = 10_000.0,
        max_distance: Count | None = None,
    ) -> None:
        super().__init__()
        if d_model % 2:
            raise ValueError(f"d_model must be even for sinusoids of distances, got {d_model}")
        self.d_model = d_model
        self.causal = causal
        self.base = base
        self.max_distance = max_distance
        self.content_bias = nn.Parameter(torch.empty(num_heads, head_dim))
        self.position_bias = nn.Parameter(torch.empty(num_heads, head_dim))
        self.position_key = nn.Parameter(torch.empty(num_heads, d_model, head_dim))
        nn.init.normal_(self.content_bias, std=0.02)
        nn.init.normal_(self.position_bias, std=0.02)
        nn.init.normal_(self.position_key, std=d_model**-0.5)

    def prepare(self, query_positions: Positions, key_positions: Positions) -> KeysByDistance | SinusoidsByPosition:
        device = key_positions.ids.device
        dtype = angle_dtype(query_positions.stop, key_positions.stop)
        # For a single query, projecting the sinusoids of all S distances would cost more than the rest of the layer.
        if query_positions.contiguous and key_positions.contiguous and query_positions.length > 1:
            least = 0 if self.causal else 1 - query_positions.length
            distance = torch.arange(key_positions.length - 1, least - 1, -1, device=device)
            distance += query_positions.stop - key_positions.stop  # not 0 in attention to another sequence
            if self.max_distance is not None:
                distance = distance.clamp(-self.max_distance, self.max_distance)
            with torch.autocast(device.type, enabled=False):
                keys_HND = torch.cat(self._sinusoid(distance, dtype), dim=-1) @ self.position_key.float()
                return KeysByDistance(keys_HND, TableShape(1, query_positions.length, key_positions.length, device))
        # Only differences count, and angles near zero are the most exact: the first key of each row is at 0. Heads
        # share a dimension of size 1.
        origin = key_positions.ids[..., :1]
        query_sin, query_cos = self._sinusoid((query_positions.ids - origin).unsqueeze(-2), dtype)
        key_sin, key_cos = self._sinusoid((key_positions.ids - origin).unsqueeze(-2), dtype)
        limit = None
        if self.max_distance is not None:
            ends = torch.tensor([self.max_distance, -self.max_distance], device=device)
            limit = torch.cat(self._sinusoid(ends, dtype), dim=-1)
        pairs = TokenPairs.between(query_positions, key_positions)
        return SinusoidsByPosition(query_sin, query_cos, key_sin, key_cos, pairs, limit)

    def logits(self, q_BHRD: Tensor, k_BHSD: Tensor, rows: QueryRows) -> Tensor:
        dtype = q_BHRD.dtype
        content_logits = super().logits(q_BHRD + self.content_bias.to(dtype).unsqueeze(1), k_BHSD, rows)
        q_BHRD = q_BHRD + self.position_bias.to(dtype).unsqueeze(1)
        if isinstance(rows.tables, KeysByDistance):
            num_rows, num_keys = q_BHRD.shape[-2], k_BHSD.shape[-2]
            # The last of these rows is furthest from the first key; skewing adds the missing columns of keys ahead.
            first = rows.tables.expected_shape.num_keys - 1 - (rows.first_key + num_rows - 1)
            keys_HND = rows.tables.keys[:, first : first + num_rows + num_keys - 1].to(dtype)
            scores_BHRS = skew(q_BHRD @ keys_HND.transpose(-2, -1), num_keys)
        else:
            scores_BHRS = self._scores_by_position(q_BHRD, rows)
        return content_logits + scores_BHRS * rows.scale

    def _scores_by_position(self, q_BHRD: Tensor, rows: QueryRows) -> Tensor:
        """Return (q + v) . W_R r(i - j), where r(i - j) is r(-j) rotated by the angles of i, which queries apply."""
        tables: SinusoidsByPosition = rows.tables
        sine, cosine = (x[..., rows.rows, :].to(q_BHRD.dtype) for x in (tables.query_sin, tables.query_cos))
        key_sin, key_cos = (x[..., rows.keys, :].to(q_BHRD.dtype) for x in (tables.key_sin, tables.key_cos))
        q_BHRM = q_BHRD @ self.position_key.to(q_BHRD.dtype).transpose(-2, -1)
        of_sin, of_cos = q_BHRM.chunk(2, dim=-1)
        turned_BHRM = torch.cat([of_sin * sine + of_cos * cosine, of_cos * sine - of_sin * cosine], dim=-1)
        scores_BHRS = turned_BHRM @ torch.cat([key_cos, key_sin], dim=-1).transpose(-2, -1)
        if tables.limit is None or self.max_distance is None:
            return scores_BHRS
        distance = tables.pairs.distance(rows.rows, rows.keys)
        behind, ahead = (q_BHRM @ tables.limit.to(q_BHRM.dtype).T).split(1, dim=-1)
        scores_BHRS = torch.where(distance > self.max_distance, behind, scores_BHRS)
        return torch.where(distance < -self.max_distance, ahead, scores_BHRS)

    def _sinusoid(self, ids: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        angle = angles(ids, inverse_frequencies(self.d_model, self.base, ids.device, dtype))
        return angle.sin(), angle.cos()

"""Rotations under other positions where a key is far from its query.

Dimension letters: B batch, H heads, T queries, S keys, R queries of a block, D head dim, P channel pairs that rotate.
"""

from __future__ import annotations

from itertools import cycle
from typing import NamedTuple

import torch
from torch import Tensor

from poslab.encodings.base import PositionalEncoding, QueryRows
from poslab.encodings.distance import TokenPairs
from poslab.encodings.frequencies import products
from poslab.encodings.positions import Positions
from poslab.encodings.rotary.rotary import FactorOn, Layout, Rotary
from poslab.encodings.rotary.rotation import Rotation
from poslab.encodings.rotary.scalings import Scaling
from poslab.encodings.shape import TableShape


class Ranges(NamedTuple):
    """Rotations of queries and keys in each range, the nearest first, and their positions.

    All ranges rotate the keys alike, or each in its own way.
    """

    rotations: list[Rotation]
    keys_alike: bool
    pairs: TokenPairs

    @property
    def expected_shape(self) -> TableShape:
        return self.pairs.expected_shape


class RangedRotary(PositionalEncoding):
    """Base class of rotary encodings that read other positions where a key is far from its query.

        logit(i, j) = a^2 q_i . R(b_n(j) - a_n(i)) k_j / sqrt(D),    n = range of i and j

    A subclass gives the positions a_n and b_n of each range (`query_ids`, `key_ids`) and says which range a pair is in
    (`range_of`). Range 0 has the nearest keys, at their own positions.

    A model that was trained with `Rotary` then meets no new angles in longer texts. Without parameters; for
    causal attention. Costs a product of queries and keys for each range, block by block of query rows (no fused
    kernel); the cache has unrotated keys, as under `Rotary`.

    Args:
        head_dim, base, fraction, layout, scaling, factor_on: as of `Rotary`, from the trained model.
    """

    causal_only = True
    of_pretrained = ("base", "fraction", "layout", "factor_on")
    of_trained = ("base", "fraction", "layout", "scaling", "factor_on")

    def __init__(
        self, head_dim: int, base: float, fraction: float, layout: Layout, scaling: Scaling | None, factor_on: FactorOn
    ) -> None:
        super().__init__()
        self.rotary = Rotary(head_dim, base, fraction, layout, scaling, factor_on=factor_on)
        self.depends_on_length = self.rotary.depends_on_length
        self.relative = type(self).relative and self.rotary.relative

    def query_ids(self, ids: Tensor) -> list[Tensor]:
        """Return the positions of queries in each range, (..., T, 1) or (..., T, P), given their own (..., T, 1)."""
        raise NotImplementedError

    def key_ids(self, ids: Tensor) -> list[Tensor]:
        """Return the keys, likewise; one represents all ranges."""
        raise NotImplementedError

    def range_of(self, query_ids: Tensor, key_ids: Tensor) -> Tensor:
        """Return the range of each pair, of positions that broadcast; the last for numbers above it, 0 for negative."""
        raise NotImplementedError

    def spectrum(self, length: int) -> Tensor:
        """Return the inverse frequencies of the trained model, (P,) float32."""
        return self.rotary.spectrum(length)

    def prepare(self, query_positions: Positions, key_positions: Positions) -> Ranges:
        device = key_positions.ids.device
        frequencies, attention_factor = self.rotary.scaled_frequencies(key_positions.stop, device)
        # In the dtype of the frequencies, since positions may become real numbers.
        query_ids, key_ids = (
            positions.ids_for_heads.unsqueeze(-1).to(frequencies) for positions in (query_positions, key_positions)
        )
        queries, keys = (
            [_cos_sin(ids, frequencies, device) for ids in of_ranges]
            for of_ranges in (self.query_ids(query_ids), self.key_ids(key_ids))
        )
        rotations = [self.rotary.rotation(q, k, attention_factor) for q, k in zip(queries, cycle(keys), strict=False)]
        return Ranges(rotations, len(keys) == 1, TokenPairs.between(query_positions, key_positions))

    def rotate_query(self, q_BHTD: Tensor, tables: Ranges) -> Tensor:
        """Return the queries as they rotate in each range, side by side."""
        return torch.cat([self.rotary.rotate_query(q_BHTD, rotation) for rotation in tables.rotations], dim=-1)

    def rotate_key(self, k_BHSD: Tensor, tables: Ranges) -> Tensor:
        """Return the keys as they rotate in each range, side by side, or once if all ranges rotate them alike."""
        rotations = tables.rotations[:1] if tables.keys_alike else tables.rotations
        return torch.cat([self.rotary.rotate_key(k_BHSD, rotation) for rotation in rotations], dim=-1)

    def scale(self, tables: Ranges) -> float:
        return self.rotary.scale(tables.rotations[0])

    def logits(self, q_BHRD: Tensor, k_BHSD: Tensor, rows: QueryRows) -> Tensor:
        """Return for each pair the logit of its range."""
        pairs: TokenPairs = rows.tables.pairs
        query_ids = pairs.query_ids[..., None, rows.rows, None]
        range_BHRS = self.range_of(query_ids, pairs.key_ids[..., None, None, rows.keys])
        width = self.rotary.head_dim
        queries, keys = q_BHRD.split(width, dim=-1), k_BHSD.split(width, dim=-1)
        logits_BHRS = super().logits(queries[0], keys[0], rows)
        for further in range(1, len(queries)):
            far_BHRS = super().logits(queries[further], keys[further % len(keys)], rows)
            logits_BHRS = torch.where(range_BHRS >= further, far_BHRS, logits_BHRS)
        return logits_BHRS


def _cos_sin(ids: Tensor, frequencies: Tensor, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return the cosine and sine of position times frequency, (..., T, P) float32."""
    angle = products(ids, frequencies).to(device)
    return angle.cos(), angle.sin()

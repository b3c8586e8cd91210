"""Rotations by angles that tokens make of their content.

Dimension letters: B batch, H query heads, G key-value heads, T queries, S keys, D head dim, E numbers of a state.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

from torch import Tensor

from poslab.encodings.base import PositionalEncoding
from poslab.encodings.rotary.rotary import Rotation, check_width, rotate_half_split


class RotationByContent(PositionalEncoding):
    """Queries and keys that turn by angles which the state of their token holds, for each key-value head its own.

    The query heads of a group turn as their keys do, and pairs are half-split. A subclass has `state` and `angles`.
    """

    shared_by_layers = False

    def __init__(self, num_heads: int, num_kv_heads: int, head_dim: int) -> None:
        super().__init__()
        if head_dim % 2:
            raise ValueError(f"head_dim must be even, got {head_dim}")
        self.group = num_heads // num_kv_heads
        self.num_kv_heads = num_kv_heads
        self.head_dim = head_dim

    @abstractmethod
    def angles(self, state_BGTE: Tensor) -> Tensor:
        """Return the angle of each channel pair in a state, (B, G, T, D / 2) float32."""

    def with_state(self, tables: Any, query_state_BHTE: Tensor, key_state_BHSE: Tensor) -> Rotation:
        key_angle = self.angles(key_state_BHSE)
        key_cos, key_sin = key_angle.cos(), key_angle.sin()
        cos, sin = key_cos, key_sin
        if query_state_BHTE is not key_state_BHSE:
            query_angle = self.angles(query_state_BHTE)
            cos, sin = query_angle.cos(), query_angle.sin()
        if self.group > 1:
            cos, sin = (x.repeat_interleave(self.group, dim=1) for x in (cos, sin))
        return Rotation(cos, sin, key_cos, key_sin)

    def rotate_query(self, q_BHTD: Tensor, tables: Rotation) -> Tensor:
        check_width(q_BHTD, self.head_dim)
        return rotate_half_split(q_BHTD, tables.query_cos, tables.query_sin)

    def rotate_key(self, k_BHSD: Tensor, tables: Rotation) -> Tensor:
        check_width(k_BHSD, self.head_dim)
        return rotate_half_split(k_BHSD, tables.key_cos, tables.key_sin)

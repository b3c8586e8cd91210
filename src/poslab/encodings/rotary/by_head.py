"""Rotations of key-value heads that each rotate in their own way, by position or by content.

Dimension letters: B batch, H query heads, G key-value heads, T queries, S keys, D head dim, P channel pairs,
E numbers of a state.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from torch import Tensor

from poslab.encodings.base import PositionalEncoding
from poslab.encodings.rotary.rotation import Rotation, check_width, rotate_half_split

Of = TypeVar("Of")


def rotation_by_group(queries: Of, keys: Of, cos_sin: Callable[[Of], tuple[Tensor, Tensor]], group: int) -> Rotation:
    """Return the tables of queries and keys whose heads rotate each in its own way, but alike in a group.

    Args:
        queries, keys: arguments of `cos_sin`, the same object where a sequence attends to itself.
        cos_sin: returns the cosines and sines of key-value heads, each (..., G, T, P) float32.
        group: number of query heads of a key-value head.
    """
    of_keys = cos_sin(keys)
    cos, sin = of_keys if queries is keys else cos_sin(queries)
    if group > 1:
        cos, sin = (x.repeat_interleave(group, dim=-3) for x in (cos, sin))
    return Rotation(cos, sin, *of_keys)


class RotatedByHead(PositionalEncoding):
    """Base class of encodings whose key-value heads each rotate by their own angles.

    A subclass makes the tables, by `rotation_by_group`. Channel pairs are half-split, unless it has another `rotate`.
    """

    rotate = staticmethod(rotate_half_split)
    """Rotation of the pairs of channels."""

    def __init__(self, num_heads: int, num_kv_heads: int, head_dim: int) -> None:
        super().__init__()
        self.group = num_heads // num_kv_heads
        self.num_kv_heads = num_kv_heads
        self.head_dim = head_dim

    def rotate_query(self, q_BHTD: Tensor, tables: Rotation) -> Tensor:
        check_width(q_BHTD, self.head_dim)
        return self.rotate(q_BHTD, tables.query_cos, tables.query_sin)

    def rotate_key(self, k_BHSD: Tensor, tables: Rotation) -> Tensor:
        check_width(k_BHSD, self.head_dim)
        return self.rotate(k_BHSD, tables.key_cos, tables.key_sin)


class RotationByContent(RotatedByHead):
    """Queries and keys that rotate by angles in the state of their token, for each key-value head its own.

    A subclass has `state` and `angles`.
    """

    shared_by_layers = False

    def __init__(self, num_heads: int, num_kv_heads: int, head_dim: int) -> None:
        super().__init__(num_heads, num_kv_heads, head_dim)
        if head_dim % 2:
            raise ValueError(f"head_dim must be even, got {head_dim}")

    def angles(self, state_BGTE: Tensor) -> Tensor:
        """Return the angle of each channel pair in a state, (B, G, T, D / 2) float32."""
        raise NotImplementedError

    def with_state(self, tables: Any, query_state_BHTE: Tensor, key_state_BHSE: Tensor) -> Rotation:
        return rotation_by_group(query_state_BHTE, key_state_BHSE, self._cos_sin, self.group)

    def _cos_sin(self, state_BGTE: Tensor) -> tuple[Tensor, Tensor]:
        angle = self.angles(state_BGTE)
        return angle.cos(), angle.sin()

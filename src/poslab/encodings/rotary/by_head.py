"""Rotations of key-value heads that each turn in their own way, and of the query heads of their groups.

Dimension letters: B batch, H query heads, G key-value heads, T queries, S keys, D head dim, P channel pairs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from torch import Tensor

from poslab.encodings.base import PositionalEncoding
from poslab.encodings.rotary.rotation import Rotation, check_width, rotate_half_split

Of = TypeVar("Of")


def rotation_by_group(queries: Of, keys: Of, cos_sin: Callable[[Of], tuple[Tensor, Tensor]], group: int) -> Rotation:
    """Return the tables of queries and keys whose heads turn each in its own way, but alike in a group.

    Args:
        queries, keys: arguments of `cos_sin`, the same object where a sequence attends to itself.
        cos_sin: returns the cosines and sines of key-value heads, each (..., G, T, P) float32.
        group: number of query heads that a key-value head serves.
    """
    of_keys = cos_sin(keys)
    cos, sin = of_keys if queries is keys else cos_sin(queries)
    if group > 1:
        cos, sin = (x.repeat_interleave(group, dim=-3) for x in (cos, sin))
    return Rotation(cos, sin, *of_keys)


class TurnedByHead(PositionalEncoding):
    """Base class of encodings whose key-value heads each turn by angles of their own.

    A subclass makes the tables, by `rotation_by_group`. Channel pairs are half-split, unless it has another `turn`.
    """

    turn = staticmethod(rotate_half_split)
    """Rotation of the pairs of channels."""

    def __init__(self, num_heads: int, num_kv_heads: int, head_dim: int) -> None:
        super().__init__()
        self.group = num_heads // num_kv_heads
        self.num_kv_heads = num_kv_heads
        self.head_dim = head_dim

    def rotate_query(self, q_BHTD: Tensor, tables: Rotation) -> Tensor:
        check_width(q_BHTD, self.head_dim)
        return self.turn(q_BHTD, tables.query_cos, tables.query_sin)

    def rotate_key(self, k_BHSD: Tensor, tables: Rotation) -> Tensor:
        check_width(k_BHSD, self.head_dim)
        return self.turn(k_BHSD, tables.key_cos, tables.key_sin)

"""Rotations by angles that tokens make of their content.

Dimension letters: B batch, H query heads, G key-value heads, T queries, S keys, D head dim, E numbers of a state.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from poslab.encodings.rotary.by_head import TurnedByHead, rotation_by_group
from poslab.encodings.rotary.rotation import Rotation


class RotationByContent(TurnedByHead):
    """Queries and keys that turn by angles which the state of their token holds, for each key-value head its own.

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

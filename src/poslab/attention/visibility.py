"""Which keys a query may see: a small value, of which nobody but the routes that must makes a mask."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from poslab.encodings.positions import Positions


@dataclass(frozen=True)
class Visibility:
    """Which of S keys each of T queries sees; rules add up, and causality follows storage order.

    The last query stands at the last key (S - T keys before the first query come from a cache), except in attention
    that is not causal and has no window, where storage order does not matter.

    Args:
        causal: no query sees a later key.
        window: a query sees the last `window` keys, its own included, and in attention that is not causal as many
            ahead; None sees all.
        query_segments, key_segments: (B, T) and (B, S) document numbers; a query sees its own document only.
        real_keys: (B, S) bool, False at padding, which nothing sees.
    """

    causal: bool = True
    window: int | None = None
    query_segments: Tensor | None = None
    key_segments: Tensor | None = None
    real_keys: Tensor | None = None

    @classmethod
    def between(
        cls,
        query_positions: Positions,
        key_positions: Positions,
        *,
        causal: bool = True,
        window: int | None = None,
        real_keys: Tensor | None = None,
    ) -> Visibility:
        """The visibility of tokens at these positions, which know their documents."""
        return cls(causal, window, query_positions.segments, key_positions.segments, real_keys)

    @property
    def in_storage_order(self) -> bool:
        """Whether causality is all there is: no window, documents or padding."""
        return self.window is None and self.query_segments is None and self.real_keys is None

    def mask(self, num_queries: int, num_keys: int, device: torch.device) -> Tensor | None:
        """True where a query sees a key, (1 or B, 1, T, S) bool; None if every query sees every key."""
        visible: Tensor | None = None
        if (self.causal and num_queries > 1) or self.window is not None:
            queries = torch.arange(num_keys - num_queries, num_keys, device=device).unsqueeze(-1)
            distance = queries - torch.arange(num_keys, device=device)
            visible = distance >= 0 if self.causal else torch.ones_like(distance, dtype=torch.bool)
            if self.window is not None:
                visible = visible & (distance.abs() < self.window)
            visible = visible[None, None]
        if self.query_segments is not None and self.key_segments is not None:
            same = self.query_segments[:, None, :, None] == self.key_segments[:, None, None, :]
            visible = same if visible is None else visible & same
        if self.real_keys is not None:
            real = self.real_keys[:, None, None, :]
            visible = real if visible is None else visible & real
        return visible

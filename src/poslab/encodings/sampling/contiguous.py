"""Positions that no sampler moves, the default."""

from __future__ import annotations

from poslab.encodings.positions import Positions
from poslab.encodings.sampling.base import PositionSampler


class Contiguous(PositionSampler):
    """Positions as they are: 0, 1, 2, ... in each document.

        p' = p

    The default. Costs nothing.
    """

    def forward(self, positions: Positions, batch_size: int) -> Positions:
        return positions

    def stop(self, length: int) -> int:
        return length

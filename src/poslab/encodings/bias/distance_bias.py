"""Short form for a bias that depends on distance alone. Dimension letters: H heads."""

from __future__ import annotations

import torch
from torch import Tensor

from poslab.encodings.base import PositionalEncoding
from poslab.encodings.distance import BiasOfPairs, BiasTable, Pairs
from poslab.encodings.positions import Positions


class DistanceBias(PositionalEncoding):
    """Base class of encodings that add a function of distance to the logits, given by `bias_at`."""

    def bias_at(self, distance: Tensor) -> Tensor:
        """Return the bias of every head, (H, *distance.shape) float32, at distances of any shape, integer or real."""
        raise NotImplementedError

    def prepare(self, query_positions: Positions, key_positions: Positions) -> BiasTable | BiasOfPairs:
        if not (query_positions.contiguous and key_positions.contiguous and query_positions.length):
            return BiasOfPairs(Pairs.between(query_positions, key_positions), self.bias_at)
        device = query_positions.ids.device
        distance = torch.arange(1 - query_positions.length, key_positions.length, device=device)
        distance += query_positions.stop - key_positions.stop  # not 0 where another sequence is attended to
        with torch.autocast(distance.device.type, enabled=False):
            return BiasTable(self.bias_at(distance), query_positions.length)

    def bias(self, tables: BiasTable | BiasOfPairs) -> BiasTable | BiasOfPairs:
        return tables

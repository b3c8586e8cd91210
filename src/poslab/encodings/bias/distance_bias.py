"""Short forms for a bias that depends only on the distance, or the offset. Dimension letters: A axes, H heads."""

from __future__ import annotations

import torch
from torch import Tensor

from poslab.encodings.base import PositionalEncoding
from poslab.encodings.distance import BiasOfPairs, BiasTable, TokenPairs
from poslab.encodings.offsets import LogitBias, Metric, bias_of_places, length_of
from poslab.encodings.positions import Positions


def along(number_H: Tensor, distance: Tensor) -> Tensor:
    """Return a number of each head as (H, 1, ...), which broadcasts over distances of any shape."""
    return number_H.view(-1, *[1] * distance.dim())


class DistanceBias(PositionalEncoding):
    """Base class of encodings that add a function of distance to the logits, given by `bias_at`.

    Args:
        metric: length of the offset of query and key on several axes, which is then their distance, for functions that
            are the same in both directions; None reads the order in storage. A text has one axis, and no metric.
    """

    def __init__(self, metric: Metric | None = None) -> None:
        super().__init__()
        self.metric = metric
        self.reads_axes = metric is not None

    def bias_at(self, distance: Tensor) -> Tensor:
        """Return the bias of every head, (H, *distance.shape) float32, at distances of any shape, integer or real."""
        raise NotImplementedError

    def bias_of(self, offset: Tensor) -> Tensor:
        """Return the bias of every head, (H, ...) float32, at offsets (..., A), integer or real."""
        assert self.metric is not None
        return self.bias_at(length_of(offset, self.metric))

    def bias_without_position(self) -> Tensor | None:
        """Return the bias of a query without a position, of such a key, and of both, (H, 3) float32; None is 0."""
        return None

    def prepare(self, query_positions: Positions, key_positions: Positions) -> LogitBias:
        on_a_text = query_positions.places is None and key_positions.places is None
        if self.metric is not None and not on_a_text:
            return bias_of_places(query_positions, key_positions, self.bias_of, self.bias_without_position())
        if not (query_positions.contiguous and key_positions.contiguous and query_positions.length):
            return BiasOfPairs(TokenPairs.between(query_positions, key_positions), self.bias_at)
        device = query_positions.ids.device
        distance = torch.arange(1 - query_positions.length, key_positions.length, device=device)
        distance += query_positions.stop - key_positions.stop  # not 0 where another sequence is attended to
        with torch.autocast(distance.device.type, enabled=False):
            return BiasTable(self.bias_at(distance), query_positions.length)

    def bias(self, tables: LogitBias) -> LogitBias:
        return tables


class OffsetBias(DistanceBias):
    """Base class of encodings that add a function of the offset on each axis to the logits, given by `bias_of`.

    In a text the offset is the distance on every axis.

    Args:
        num_axes: number of axes A.
    """

    def __init__(self, num_axes: int) -> None:
        super().__init__()
        self.num_axes = num_axes
        self.reads_axes = num_axes > 1

    def bias_of(self, offset: Tensor) -> Tensor:
        raise NotImplementedError

    def bias_at(self, distance: Tensor) -> Tensor:
        return self.bias_of(distance.unsqueeze(-1).expand(*distance.shape, self.num_axes))

    def prepare(self, query_positions: Positions, key_positions: Positions) -> LogitBias:
        places = [positions.places for positions in (query_positions, key_positions) if positions.places is not None]
        for on_axes in places:
            on_axes.require_axes(self.num_axes, type(self).__name__)
        if places:
            return bias_of_places(query_positions, key_positions, self.bias_of, self.bias_without_position())
        return super().prepare(query_positions, key_positions)

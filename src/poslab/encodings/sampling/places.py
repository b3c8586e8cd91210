"""Contracts of samplers that move tokens on their axes. Dimension letters: B batch, T tokens, A axes."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from poslab.encodings.places import Places
from poslab.encodings.positions import Positions
from poslab.encodings.sampling.base import PositionSampler


class PlaceSampler(PositionSampler):
    """Base class of samplers that move tokens on their axes, and leave their order in storage.

    Encodings that do not read axes do not feel them.

    Raises:
        ValueError: in `forward`, for tokens without places on axes.
    """

    def forward(self, positions: Positions, batch_size: int) -> Positions:
        if positions.places is None:
            raise ValueError(
                f"positions must not be {type(self).__name__} for a text: it moves patches of pictures on their axes; "
                "choose contiguous"
            )
        return replace(positions, places=self.moved(positions.places))

    def moved(self, places: Places) -> Places:
        """Return the same tokens at other coordinates."""
        raise NotImplementedError

    def stop(self, length: int) -> int:
        return length


class SequenceSampler(PlaceSampler):
    """Base class of samplers for sequences of text and pictures; those of text alone stay as they are."""

    def forward(self, positions: Positions, batch_size: int) -> Positions:
        return positions if positions.places is None else super().forward(positions, batch_size)


def starts(places: Places, extent: Tensor) -> tuple[Tensor, Tensor]:
    """Return the start of the grid of each token, and that of the text behind the row: sums of extents.

    Args:
        places: of a sequence of grids.
        extent: (T,) or (B, T), the length of the grid of each token along the sequence.

    Returns:
        (T,) or (B, T), and (1,) or (B, 1).
    """
    grids = places.grids
    if places.nowhere is not None:
        grids, extent = grids.masked_fill(places.nowhere, -1), extent.masked_fill(places.nowhere, 0)
    is_first = torch.ones_like(grids, dtype=torch.bool)
    is_first[..., 1:] = grids[..., 1:] != grids[..., :-1]
    ends = (extent * is_first).cumsum(-1)
    return ends - extent, ends[..., -1:]


def time_axis(places: Places) -> int:
    """Return the number of the axis `time`; raise ValueError if there is none."""
    if "time" not in places.axes:
        raise ValueError(f"positions must have the axis time, got {', '.join(places.axes)}")
    return places.axes.index("time")

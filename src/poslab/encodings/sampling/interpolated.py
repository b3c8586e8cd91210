"""Positions of EVA-02: pictures of every size on the grid of training."""

from __future__ import annotations

from collections.abc import Sequence

from poslab.arguments import Count
from poslab.encodings.places import Places
from poslab.encodings.sampling.places import PlaceSampler, starts


class Interpolated(PlaceSampler):
    """Cells scaled to the grid of training, so that a larger picture has positions between the trained ones (EVA-02).

        p = s + i * n_train / n    for cell i of n

    s is 0 in a picture alone. Text behind it continues after its largest position, as under `MRope`.

    Use it for pictures that are tested at higher resolutions than that of training, or to load such a model.

    Args:
        grid: cells of the grid of training on each axis (EVA-02: 16, 16).

    For tokens with places on axes. On the grid of training positions stay as they are. The same in training and
    evaluation. Position interpolation of a text is `rope_linear`. Costs a product for each token.

    Raises:
        ValueError: for positions on another number of axes.

    Source: Fang et al., "EVA-02: A Visual Representation for Neon Genesis" (2023); the formula is that of its code.
    """

    fits_grids = True

    def __init__(self, grid: Sequence[Count] = (16, 16)) -> None:
        super().__init__()
        self.grid = tuple(grid)

    def moved(self, places: Places) -> Places:
        if len(self.grid) != len(places.axes):
            raise ValueError(f"grid must have a number for each axis, {', '.join(places.axes)}, got {list(self.grid)}")
        scale = places.sizes.new_tensor(self.grid) / places.sizes
        start, end = starts(places, ((places.sizes - 1) * scale).amax(-1) + 1)
        return places.at(places.cells * scale + start.unsqueeze(-1), end)

"""The grid of tokens, as encodings read it. Dimension letters: T tokens, A axes."""

from __future__ import annotations

from typing import NamedTuple

from poslab.encodings import Positions


class Grid(NamedTuple):
    """The grid of the patches of an example.

    Args:
        axes: names of its axes, the outermost first.
        sizes: number of cells on each axis.
        span: difference of the coordinates of the last and the first cell on each axis; one less than the size, unless
            a sampler moves the cells.
        lengths: of the axes, on which some spectra depend (`Positions.lengths`).
    """

    axes: tuple[str, ...]
    sizes: tuple[int, ...]
    span: tuple[float, ...]
    lengths: tuple[int, ...]

    @classmethod
    def of(cls, positions: Positions) -> Grid | None:
        """Return the first grid of at least two cells in the first row of positions; None if there is none."""
        grid = positions.places
        if grid is None:
            return None
        sizes_TA, coordinates_TA = (x if x.dim() == 2 else x[0] for x in (grid.sizes, grid.coordinates))
        grids_T = grid.grids if grid.grids.dim() == 1 else grid.grids[0]
        is_cell_T = sizes_TA.prod(-1) > 1
        if not is_cell_T.any():
            return None
        first = int(is_cell_T.int().argmax())
        of_grid = coordinates_TA[is_cell_T & (grids_T == grids_T[first])].double()
        span = (of_grid.amax(0) - of_grid.amin(0)).tolist()
        return cls(grid.axes, tuple(sizes_TA[first].tolist()), tuple(span), positions.lengths)

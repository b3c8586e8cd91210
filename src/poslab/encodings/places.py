"""Places of tokens on several axes. Dimension letters: B batch, T tokens, A axes, G grids of a row."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from poslab.encodings.numerics import is_traced

AXES: dict[int, tuple[str, ...]] = {1: ("time",), 2: ("height", "width"), 3: ("time", "height", "width")}
"""The usual names of so many axes, the outermost first."""


@dataclass(frozen=True)
class Places:
    """Places of T tokens on A axes, in addition to their order in storage: patches of an image, a clip or a sound.

    Each token is a cell of a grid, row after row; a token of text is a grid of one cell.

    Args:
        axes: names of the axes, the outermost first, such as `height` and `width`.
        cells: (T, A) or (B, T, A), the cell of each token in its own grid, integers from 0.
        sizes: as `cells`, the number of cells of that grid on each axis.
        largest: for each axis, a number that no size is above; known by construction, without reading a tensor.
        grids: (T,) or (B, T), the number of the grid of each token within its row, from 0.
        coordinates: as `cells`, integer or real: where encodings take the tokens to be.
        end: coordinate of the text that follows, (1,) or (B, 1); None if the coordinates are the cells.
        stop: exclusive bound of the coordinates on every axis, known by construction; None if the sizes bound them.
        without_position: (T,) or (B, T) bool, True for a token without a position, such as a register: all its
            numbers are 0. None if every token has a position.
    """

    axes: tuple[str, ...]
    cells: Tensor
    sizes: Tensor
    largest: tuple[int, ...]
    grids: Tensor
    coordinates: Tensor
    end: Tensor | None = None
    stop: int | None = None
    without_position: Tensor | None = None

    def __post_init__(self) -> None:
        check_coordinates("coordinates", self.coordinates, 2)

    @classmethod
    def of_grids(cls, sizes: Tensor, length: int, largest: Sequence[int], axes: Sequence[str] | None = None) -> Places:
        """Return the places of grids that are one after another in storage, each row after row.

        ValueError if there are other numbers of axes than names or largest sizes.

        Args:
            sizes: (G, A) or (B, G, A) integers of at least 1; grids past the last one of a row have sizes of 0.
            length: number of tokens T; tokens past the last grid, which are padding, are where its last token is.
            largest: as above.
            axes: names; None is the usual ones (`AXES`).
        """
        num_axes = sizes.shape[-1]
        names = tuple(AXES.get(num_axes, ()) if axes is None else axes)
        if not len(names) == len(largest) == num_axes:
            raise ValueError(
                f"axes must have a name and a largest size each, got {num_axes} axes, {len(names)} names and "
                f"{len(largest)} largest sizes"
            )
        counts = sizes.prod(-1)
        ends = counts.cumsum(-1)
        storage = torch.arange(length, device=sizes.device)
        storage = torch.minimum(storage, ends[..., -1:] - 1)
        grids = torch.searchsorted(ends, storage, right=True)
        of_tokens = sizes.gather(-2, grids.unsqueeze(-1).expand(*grids.shape, num_axes))
        cells = _cells(storage - (ends - counts).gather(-1, grids), of_tokens)
        return cls(names, cells, of_tokens, tuple(largest), grids, cells)

    def require_axes(self, num_axes: int, encoding: str) -> None:
        """Raise ValueError for an encoding of other than these axes."""
        if len(self.axes) != num_axes:
            raise ValueError(
                f"encoding {encoding} is for {num_axes} axes, and tokens are on {len(self.axes)}: "
                f"{', '.join(self.axes)}"
            )

    @property
    def length(self) -> int:
        """Number of tokens T."""
        return self.grids.shape[-1]

    @property
    def moved(self) -> bool:
        """True if the coordinates are other than the cells."""
        return self.end is not None

    @property
    def stops(self) -> tuple[int, ...] | None:
        """For each axis, an exclusive bound of the coordinates, which are integers of at least 0; None if moved."""
        return None if self.moved else tuple(max(size, self.stop or 0) for size in self.largest)

    def at(self, coordinates: Tensor, end: Tensor | None = None, stop: int | None = None) -> Places:
        """Return the same tokens at other coordinates, (T, A) or (B, T, A); a token that has no place stays at 0.

        Args:
            coordinates: integer or real.
            end: coordinate of the text that follows, (1,) or (B, 1); None is the largest coordinate + 1.
            stop: exclusive bound of the coordinates; None if those on each axis are of the order of its sizes.
        """
        if self.without_position is not None:
            coordinates = coordinates.masked_fill(self.without_position.unsqueeze(-1), 0)
        if end is None:
            end = coordinates.amax((-2, -1)).unsqueeze(-1) + 1
        return replace(self, coordinates=coordinates, end=end, stop=stop)

    def in_storage_order(self) -> Places:
        """Return the same tokens at their numbers in storage, on every axis alike."""
        storage = torch.arange(self.length, device=self.cells.device)
        return self.at(storage.unsqueeze(-1).expand_as(self.cells), stop=self.length)

    def take(self, tokens: Tensor | slice) -> Places:
        """Return the places of these tokens, in the order of their numbers in storage `tokens`, (N,) or a slice."""
        return self._with_tensors(lambda x, own_dims: x[..., tokens, :] if own_dims == 2 else x[..., tokens])

    def select(self, rows_R: Tensor) -> Places:
        """Return the places of these rows; those that serve all rows are unchanged."""
        chosen = self._with_tensors(lambda x, own_dims: x[rows_R] if x.dim() > own_dims else x)
        return chosen if self.end is None or self.end.dim() == 1 else replace(chosen, end=self.end[rows_R])

    def behind(self, count: int) -> Places:
        """Return these places behind `count` tokens without a position."""
        whole = self
        if self.without_position is None:
            whole = replace(self, without_position=torch.zeros_like(self.grids).bool())

        def padded(x: Tensor, own_dims: int) -> Tensor:
            shape = [*x.shape]
            shape[-own_dims] = count
            return torch.cat([x.new_full(shape, x.dtype == torch.bool), x], dim=-own_dims)

        return whole._with_tensors(padded)

    def continuation(self, length: int) -> Places:
        """Return the places of the next tokens of each row: the next cells of a grid that has begun, and then text.

        Text continues by one, on all axes alike, from the `end` of places that were moved, else after the largest
        coordinate so far. Where the coordinates are others than the cells, all that follows is text.
        """
        last, sizes = self.cells[..., -1:, :], self.sizes[..., -1:, :].clamp_min(1)
        steps = torch.arange(length, device=last.device)
        if self.end is not None:
            text, begin, end = steps.expand(*last.shape[:-2], length), self.end, self.end + length
            cells = torch.zeros_like(last).expand(*last.shape[:-2], length, -1)
            sizes_T = torch.ones_like(cells)
        else:
            number = _number(last, sizes) + 1 + steps
            text, end = number - sizes.prod(-1), None
            begin = torch.maximum(self.coordinates.amax((-2, -1)).unsqueeze(-1), sizes.amax(-1) - 1) + 1
            is_text = (text >= 0).unsqueeze(-1)
            sizes_T = torch.where(is_text, 1, sizes)
            cells = _cells(number, sizes.expand_as(sizes_T)).masked_fill(is_text, 0)
        coordinates = torch.where((text >= 0).unsqueeze(-1), (begin + text).unsqueeze(-1), cells)
        grids = self.grids[..., -1:] + (text + 1).clamp_min(0)
        stop = length + (max(self.largest) if self.stop is None else self.stop)
        return Places(self.axes, cells, sizes_T, self.largest, grids, coordinates, end, stop)

    def followed_by(self, later: Places) -> Places:
        """Return these places and then the later ones; ValueError if the two are on other axes."""
        if self.axes != later.axes:
            raise ValueError(f"places must be on the axes {', '.join(self.axes)}, got {', '.join(later.axes)}")
        end, without_position = later.end, None
        stops = [places.stop for places in (self, later) if places.stop is not None]
        if end is None and self.end is not None:
            end = later.coordinates.amax((-2, -1)).unsqueeze(-1) + 1
        if self.without_position is not None or later.without_position is not None:
            missing, missing_later = (
                torch.zeros_like(p.grids).bool() if p.without_position is None else p.without_position
                for p in (self, later)
            )
            without_position = joined_rows(missing, missing_later, 1)
        return Places(
            self.axes,
            joined_rows(self.cells, later.cells, 2),
            joined_rows(self.sizes, later.sizes, 2),
            tuple(map(max, self.largest, later.largest)),
            joined_rows(self.grids, later.grids, 1),
            joined_rows(self.coordinates, later.coordinates, 2),
            end,
            max(stops) if stops else None,
            without_position,
        )

    def _with_tensors(self, change: Callable[[Tensor, int], Tensor]) -> Places:
        """Return these places with each tensor changed, given it and its number of dimensions without a batch."""
        return replace(
            self,
            cells=change(self.cells, 2),
            sizes=change(self.sizes, 2),
            grids=change(self.grids, 1),
            coordinates=change(self.coordinates, 2),
            without_position=None if self.without_position is None else change(self.without_position, 1),
        )


def check_coordinates(name: str, x: Tensor, own_dims: int) -> None:
    """Raise ValueError unless x has `own_dims` dimensions, or one more for rows, and contains finite numbers.

    Numbers are read only on a CPU, where nothing waits for them, and not in a compiled model.
    """
    if x.dim() not in (own_dims, own_dims + 1):
        form = ("tokens", "axes")[:own_dims]
        raise ValueError(f"{name} must be ({', '.join(form)}) or (batch, {', '.join(form)}), got {tuple(x.shape)}")
    if x.is_complex() or not x.dtype.is_signed:  # differences of unsigned numbers wrap around
        raise ValueError(f"{name} must be signed integers or real numbers, got {x.dtype}")
    if x.is_floating_point() and x.device.type == "cpu" and not is_traced() and not bool(x.isfinite().all()):
        raise ValueError(f"{name} must be finite, got {x[~x.isfinite()][0]}")


def joined_rows(ours: Tensor, later: Tensor, own_dims: int) -> Tensor:
    """Join tensors of tokens, the first of their `own_dims` last dimensions; one that is for all rows is repeated."""
    if ours.dim() != later.dim():
        rows = len(ours if ours.dim() > own_dims else later)
        ours, later = (x if x.dim() > own_dims else x.expand(rows, *x.shape) for x in (ours, later))
    return torch.cat([ours, later], dim=-own_dims)


def _cells(number: Tensor, sizes: Tensor) -> Tensor:
    """Return the cells (..., T, A) of the numbers (..., T), counted row after row, in grids of these sizes."""
    cells = []
    for axis in reversed(range(sizes.shape[-1])):
        cells.append(number % sizes[..., axis])
        number = number // sizes[..., axis]
    return torch.stack(cells[::-1], dim=-1)


def _number(cells: Tensor, sizes: Tensor) -> Tensor:
    """Return the numbers (..., T) of cells (..., T, A), the inverse of `_cells`."""
    number = torch.zeros_like(cells[..., 0])
    for axis in range(sizes.shape[-1]):
        number = number * sizes[..., axis] + cells[..., axis]
    return number

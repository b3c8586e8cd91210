"""Positions of tokens, which every encoding and attention route reads. Dimension letters: B batch, T tokens, R rows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from poslab.encodings.places import Places, check_coordinates, joined_rows


@dataclass(frozen=True)
class Positions:
    """Positions of T tokens, in storage order.

    Args:
        ids: (T,) or (B, T), integer or real.
        stop: exclusive bound of the ids, last + 1 if contiguous; known by construction, without reading a tensor.
            Angles are precise as far from 0 as it is, on both sides.
        contiguous: True if the ids of any two tokens that may see each other differ by their distance in storage, as in
            a range or in packed documents that each count from 0; known by construction.
        segments: (B, T) document number of each token; None if a row is one document.
        places: places on several axes, as of patches; None for a text. The ids are then the order in storage, which
            encodings of one axis read.

    Raises:
        ValueError: for ids of another form, and on a CPU, where nothing waits for it, for real ids that are not finite.
    """

    ids: Tensor
    stop: int
    contiguous: bool = False
    segments: Tensor | None = None
    places: Places | None = None

    def __post_init__(self) -> None:
        check_coordinates("ids", self.ids, 1)

    @classmethod
    def range(cls, length: int, start: int = 0, device: torch.device | str | None = None) -> Positions:
        """Return `start, start + 1, ...`: the positions of one text, or of its continuation."""
        return cls(torch.arange(start, start + length, device=device), start + length, contiguous=True)

    @classmethod
    def packed(cls, segments: Tensor) -> Positions:
        """Return positions that count from 0 in each document of a row: `[[5, 5, 5, 8, 8]]` has `[[0, 1, 2, 0, 1]]`.

        `segments` (B, T) are document numbers; the tokens of a document are side by side.
        """
        ids = torch.arange(segments.shape[1], device=segments.device) - first_of_document(segments)
        return cls(ids, segments.shape[1], contiguous=True, segments=segments)

    @classmethod
    def padded(cls, real: Tensor) -> Positions:
        """Return positions of rows padded on either side: the first real token of each row is at 0.

        `real` (B, T) is False at padding. Left padding is at 0 too, and must not be attended to.
        """
        storage = torch.arange(real.shape[1], device=real.device)
        first_real = real.int().argmax(dim=1, keepdim=True)
        return cls((storage - first_real).clamp_min(0), real.shape[1], contiguous=True)

    @classmethod
    def grid(
        cls, *sizes: int, axes: Sequence[str] | None = None, device: torch.device | str | None = None
    ) -> Positions:
        """Return the positions of the cells of one grid, row after row; `Positions.grid(2, 3)` has two rows of three.

        `axes` are their names; None is the usual ones, such as height and width.
        """
        return cls.grids(torch.tensor([sizes], device=device), math.prod(sizes), sizes, axes)

    @classmethod
    def grids(cls, sizes: Tensor, length: int, largest: Sequence[int], axes: Sequence[str] | None = None) -> Positions:
        """Return the positions of rows of grids; arguments and errors as in `Places.of_grids`."""
        places = Places.of_grids(sizes, length, largest, axes)
        return replace(cls.range(length, device=sizes.device), places=places)

    @property
    def length(self) -> int:
        """Number of tokens T."""
        return self.ids.shape[-1]

    @property
    def ids_for_heads(self) -> Tensor:
        """Ids as (T,) or (B, 1, T), which broadcasts over heads."""
        return self.ids if self.ids.dim() == 1 else self.ids.unsqueeze(1)

    def part(self, tokens: slice) -> Positions:
        """Return the positions of some of the tokens of a text; `stop` stays the same as for all."""
        assert self.places is None
        segments = None if self.segments is None else self.segments[:, tokens]
        return replace(self, ids=self.ids[..., tokens], segments=segments)

    def select(self, rows_R: Tensor) -> Positions:
        """Return the positions of these rows; ids that are for all rows are unchanged."""
        ids = self.ids if self.ids.dim() == 1 else self.ids[rows_R]
        return replace(
            self,
            ids=ids,
            segments=None if self.segments is None else self.segments[rows_R],
            places=None if self.places is None else self.places.select(rows_R),
        )

    def reordered(self, order: Tensor) -> Positions:
        """Return the positions of a text whose rows are stored in another order, (B, T) token numbers."""
        assert self.places is None
        segments = None if self.segments is None else self.segments.gather(1, order)
        return replace(self, ids=self.ids.expand(len(order), -1).gather(1, order), segments=segments)

    @property
    def coordinates(self) -> Tensor:
        """Coordinates on each axis, (T, A) or (B, T, A); without places the ids."""
        return self.ids.unsqueeze(-1) if self.places is None else self.places.coordinates

    @property
    def coordinates_for_heads(self) -> Tensor:
        """Coordinates as (T, A) or (B, 1, T, A), which broadcasts over heads."""
        return self.coordinates if self.coordinates.dim() == 2 else self.coordinates.unsqueeze(1)

    @property
    def lengths(self) -> tuple[int, ...]:
        """Length so far of each axis: `Places.stop` or the largest size; without places (`stop`,)."""
        if self.places is None:
            return (self.stop,)
        largest, stop = self.places.largest, self.places.stop
        return largest if stop is None else (stop,) * len(largest)

    @property
    def without_position(self) -> Tensor | None:
        """True for a token that has no place among others that have, (T,) or (B, T); None if there is none."""
        return None if self.places is None else self.places.without_position

    def require_below(self, end: int, ended: str, instead: str = "train with a larger max_length") -> None:
        """Raise ValueError for positions at or past the `max_length` of an encoding, with what ends and what to do."""
        if self.stop > end:
            raise ValueError(
                f"max_length={end} {ended} end before position {self.stop - 1}; {instead}, or choose an encoding "
                "without an end"
            )

    def zero_without_position(self, x: Tensor) -> Tensor:
        """Return vectors of the tokens, (T, M) or (B, T, M), with zeros for those without a position."""
        return x if self.without_position is None else x.masked_fill(self.without_position.unsqueeze(-1), 0)

    def behind(self, count: int) -> Positions:
        """Return these positions behind `count` tokens of the same document without a position.

        They are contiguous if these are, and begin at 0.
        """
        first, later = torch.arange(count, device=self.ids.device), self.shifted(count)
        return replace(
            later,
            ids=joined_rows(first, later.ids, 1),
            contiguous=self.contiguous and (self.segments is not None or self.stop == self.length),
            segments=None
            if self.segments is None
            else torch.cat([self.segments[:, :1].expand(-1, count), self.segments], dim=1),
            places=None if self.places is None else self.places.behind(count),
        )

    def shifted(self, by: int) -> Positions:
        """Return these positions further on by a number; places stay where they are."""
        return replace(self, ids=self.ids + by, stop=self.stop + by) if by else self

    def continuation(self, length: int) -> Positions:
        """Return the next `length` positions, each row from its own last position and in its own last document."""
        ids = self.ids[..., -1:] + torch.arange(1, length + 1, device=self.ids.device)
        segments = None if self.segments is None else self.segments[:, -1:].expand(-1, length)
        places = None if self.places is None else self.places.continuation(length)
        return Positions(ids, self.stop + length, self.contiguous, segments, places)

    def followed_by(self, later: Positions) -> Positions:
        """Return these positions and then the later ones, as a key-value cache contains them.

        Contiguous if both are: later positions that do not continue these must not be marked so.

        Raises:
            ValueError: if only one of the two has segments, or places, or these are on other axes.
        """
        for name in ("segments", "places"):
            if (getattr(self, name) is None) != (getattr(later, name) is None):
                raise ValueError(f"{name} must be given for all tokens or for none, got a continuation that differs")
        segments = None
        if self.segments is not None and later.segments is not None:
            segments = torch.cat([self.segments, later.segments], dim=-1)
        places = None
        if self.places is not None and later.places is not None:
            places = self.places.followed_by(later.places)
        stop, contiguous = max(self.stop, later.stop), self.contiguous and later.contiguous
        return Positions(joined_rows(self.ids, later.ids, 1), stop, contiguous, segments, places)


def first_of_document(segments: Tensor) -> Tensor:
    """Return the place in storage of the first token of each token's document, (B, T)."""
    begins = torch.ones_like(segments, dtype=torch.bool)
    begins[:, 1:] = segments[:, 1:] != segments[:, :-1]
    return torch.where(begins, torch.arange(segments.shape[1], device=segments.device), 0).cummax(dim=1).values

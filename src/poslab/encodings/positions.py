"""Positions of tokens, which every encoding and attention route reads. Dimension letters: B batch, T tokens, R rows."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True)
class Positions:
    """Positions of T tokens, in storage order.

    Args:
        ids: (T,) or (B, T), integer or real.
        stop: exclusive bound of the ids, last + 1 if contiguous; known by construction, without reading a tensor.
        contiguous: True if the ids of any two tokens that may see each other differ by their distance in storage, as in
            a range or in packed documents that each count from 0; known by construction.
        segments: (B, T) document number of each token; None if a row is one document.
    """

    ids: Tensor
    stop: int
    contiguous: bool = False
    segments: Tensor | None = None

    @classmethod
    def range(cls, length: int, start: int = 0, device: torch.device | str | None = None) -> Positions:
        """Return `start, start + 1, ...`: the positions of one text, or of its continuation."""
        return cls(torch.arange(start, start + length, device=device), start + length, contiguous=True)

    @classmethod
    def packed(cls, segments: Tensor) -> Positions:
        """Return positions that count from 0 in each document of a row: `[[5, 5, 5, 8, 8]]` has `[[0, 1, 2, 0, 1]]`.

        `segments` (B, T) are document numbers; the tokens of a document stand side by side.
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

    @property
    def length(self) -> int:
        """Number of tokens T."""
        return self.ids.shape[-1]

    @property
    def ids_for_heads(self) -> Tensor:
        """Ids as (T,) or (B, 1, T), which broadcasts over heads."""
        return self.ids if self.ids.dim() == 1 else self.ids.unsqueeze(1)

    def select(self, rows_R: Tensor) -> Positions:
        """Return the positions of these rows; ids that serve all rows stay as they are."""
        ids = self.ids if self.ids.dim() == 1 else self.ids[rows_R]
        return replace(self, ids=ids, segments=None if self.segments is None else self.segments[rows_R])

    def continuation(self, length: int) -> Positions:
        """Return the next `length` positions, each row from its own last position and in its own last document."""
        ids = self.ids[..., -1:] + torch.arange(1, length + 1, device=self.ids.device)
        segments = None if self.segments is None else self.segments[:, -1:].expand(-1, length)
        return Positions(ids, self.stop + length, self.contiguous, segments)

    def followed_by(self, later: Positions) -> Positions:
        """Return these positions and then the later ones, as a key-value cache holds them.

        Contiguous if both are: later positions that do not continue these must not be marked so.

        Raises:
            ValueError: if only one of the two has segments.
        """
        if (self.segments is None) != (later.segments is None):
            raise ValueError("segments must be given for all tokens or for none, got a continuation that differs")
        ids, later_ids = self.ids, later.ids
        if ids.dim() != later_ids.dim():
            rows = len(ids if ids.dim() == 2 else later_ids)
            ids, later_ids = ids.expand(rows, -1), later_ids.expand(rows, -1)
        segments = None
        if self.segments is not None and later.segments is not None:
            segments = torch.cat([self.segments, later.segments], dim=-1)
        stop, contiguous = max(self.stop, later.stop), self.contiguous and later.contiguous
        return Positions(torch.cat([ids, later_ids], dim=-1), stop, contiguous, segments)


def first_of_document(segments: Tensor) -> Tensor:
    """Return the place in storage of the first token of each token's document, (B, T)."""
    begins = torch.ones_like(segments, dtype=torch.bool)
    begins[:, 1:] = segments[:, 1:] != segments[:, :-1]
    return torch.where(begins, torch.arange(segments.shape[1], device=segments.device), 0).cummax(dim=1).values

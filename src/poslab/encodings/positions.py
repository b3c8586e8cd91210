"""Where tokens are: a small value that every encoding and every attention route reads."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True)
class Positions:
    """The positions of T tokens, in storage order.

    Args:
        ids: (T,) or (B, T), integer or real.
        stop: every id is below this number, and the last of contiguous ones is just below it; known when the ids are
            made, so that nobody looks into a tensor for it.
        contiguous: whether the ids of any two tokens that may see each other differ by exactly their distance in
            storage. True for a plain range, and for packed documents that each count from 0; known by construction.
        segments: (B, T) number of the document that each token belongs to, None where a row is one document.
    """

    ids: Tensor
    stop: int
    contiguous: bool = False
    segments: Tensor | None = None

    @classmethod
    def range(cls, length: int, start: int = 0, device: torch.device | str | None = None) -> Positions:
        """`start, start + 1, ...`: the positions of one text, or of its continuation."""
        return cls(torch.arange(start, start + length, device=device), start + length, contiguous=True)

    @classmethod
    def packed(cls, segments: Tensor) -> Positions:
        """Positions that count from 0 in each document of a row.

        Args:
            segments: (B, T) document numbers; the tokens of a document stand side by side.

        `[[5, 5, 5, 8, 8]]` gives the ids `[[0, 1, 2, 0, 1]]`.
        """
        storage = torch.arange(segments.shape[1], device=segments.device)
        begins = torch.ones_like(segments, dtype=torch.bool)
        begins[:, 1:] = segments[:, 1:] != segments[:, :-1]
        first_of_document = torch.where(begins, storage, 0).cummax(dim=1).values
        return cls(storage - first_of_document, segments.shape[1], contiguous=True, segments=segments)

    @classmethod
    def padded(cls, real: Tensor) -> Positions:
        """Positions of rows with padding on either side: the first real token of each row is at 0.

        Args:
            real: (B, T) bool, True at tokens, False at padding. Left padding sits at 0 too; nothing may look at it.
        """
        storage = torch.arange(real.shape[1], device=real.device)
        first_real = real.int().argmax(dim=1, keepdim=True)
        return cls((storage - first_real).clamp_min(0), real.shape[1], contiguous=True)

    @property
    def length(self) -> int:
        """T, the number of tokens."""
        return self.ids.shape[-1]

    @property
    def ids_for_heads(self) -> Tensor:
        """The ids as (T,) or (B, 1, T), which broadcasts over heads."""
        return self.ids if self.ids.dim() == 1 else self.ids.unsqueeze(1)

    def select(self, rows_R: Tensor) -> Positions:
        """Those of these rows; what is one row for all stays so."""
        ids = self.ids if self.ids.dim() == 1 else self.ids[rows_R]
        return replace(self, ids=ids, segments=None if self.segments is None else self.segments[rows_R])

    def continuation(self, length: int) -> Positions:
        """The next `length` positions, each row from its own last position and in its own last document."""
        ids = self.ids[..., -1:] + torch.arange(1, length + 1, device=self.ids.device)
        segments = None if self.segments is None else self.segments[:, -1:].expand(-1, length)
        return Positions(ids, self.stop + length, self.contiguous, segments)

    def followed_by(self, later: Positions) -> Positions:
        """These tokens and then the later ones, as a key-value cache holds them.

        Contiguous if both are: whoever makes later positions that do not go on where these end must not call them so.

        Raises:
            ValueError: if the tokens of one part belong to documents and those of the other do not.
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
        return Positions(
            torch.cat([ids, later_ids], dim=-1),
            max(self.stop, later.stop),
            self.contiguous and later.contiguous,
            segments,
        )

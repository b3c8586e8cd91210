"""Longer tables of learned positions, made of those that a model has. Dimension letters: N, K rows, M model dim."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from poslab.models import ForwardPass, Model
from poslab.start.base import Start


class StartOfRows(Start):
    """Base class of starts that make K rows of learned positions of the N rows that the model has."""

    def check(self, model: Model, earlier: Model) -> None:
        new, old = _tables(model), earlier.position_rows
        name = type(self).__name__.lower()
        if not new:
            kinds = " and ".join(sorted({type(encoding).__name__ for encoding in model.encodings}))
            raise ValueError(
                f"start={name} needs an encoding with a row for each position, such as learned, got {kinds}"
            )
        if old is None:
            raise ValueError(f"start={name} needs a model that has a row for each position, and this one has none")
        if old.shape[1] != new[0].shape[1]:
            raise ValueError(
                f"start={name} needs rows as wide as the model, {new[0].shape[1]} numbers, got {old.shape[1]}"
            )

    def apply(self, model: Model, earlier: Model, readings: Iterable[ForwardPass] = ()) -> list[str]:
        self.check(model, earlier)
        old_NM = earlier.position_rows
        assert old_NM is not None
        lines = []
        for table in _tables(model):
            with torch.no_grad():
                table.copy_(self.rows(old_NM.detach().to(table.device), len(table)))
            lines.append(f"{len(table):,} rows of positions are {type(self).__name__.lower()} from {len(old_NM):,}")
        return lines

    def rows(self, old_NM: Tensor, count: int) -> Tensor:
        """Return K = count rows, (K, M)."""
        raise NotImplementedError


class Copied(StartOfRows):
    """The rows of the model, again and again.

        W'[p] = W[p mod N]

    The first N rows are exactly the model's own. A text that is longer is read as if it began again, so that near
    distances keep their meaning.

    Source: Beltagy, Peters, Cohan, "Longformer: The Long-Document Transformer" (2020), section 5.
    """

    def rows(self, old_NM: Tensor, count: int) -> Tensor:
        return old_NM[torch.arange(count, device=old_NM.device) % len(old_NM)]


class Interpolated(StartOfRows):
    """The rows of the model, stretched by linear interpolation along positions.

        W'[p] = (1 - f) W[k] + f W[k + 1],    k + f = p (N - 1) / (K - 1),    k an integer, 0 <= f < 1

    The first and the last row are the model's own; with N = 512 and K = 1,023 so is every second one. A table that is
    not longer (K <= N) is the first K rows. Every distance shrinks by the same factor, the near ones too.

    Source: Zhu et al., "LongEmbed: Extending Embedding Models for Long Context Retrieval" (EMNLP 2024).
    """

    def rows(self, old_NM: Tensor, count: int) -> Tensor:
        if count <= len(old_NM):
            return old_NM[:count]
        steps = torch.arange(count, device=old_NM.device) * (len(old_NM) - 1)  # integers, so that no row is missed
        before, rest = steps // (count - 1), steps % (count - 1)
        share_K1 = (rest.to(old_NM.dtype) / (count - 1)).unsqueeze(-1)
        return torch.lerp(old_NM[before], old_NM[(before + 1).clamp_max(len(old_NM) - 1)], share_K1)


def _tables(model: Model) -> list[Tensor]:
    """Return the tables of positions of a model's encodings."""
    return [encoding.rows for encoding in model.encodings if encoding.rows is not None]

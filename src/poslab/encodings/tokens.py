"""What stands in a text: a small value for encodings that read tokens beside positions."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

PADDING = -1
"""Stands for the id of a token that is padding, whatever id it has."""


@dataclass(frozen=True)
class Tokens:
    """The tokens of a text as far as it has been read, in storage order.

    Args:
        ids: (B, S) token ids, `PADDING` at padding; in decoding they begin with those that are in the cache.
        segments: (B, S) number of the document that each token belongs to, None where a row is one document.
    """

    ids: Tensor
    segments: Tensor | None = None

    @property
    def length(self) -> int:
        """S, the number of tokens so far."""
        return self.ids.shape[1]

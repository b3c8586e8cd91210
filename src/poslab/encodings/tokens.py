"""Tokens of a text, for encodings that read them in addition to positions. Dimension letters: B batch, S tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from poslab.encodings.numerics import is_under_torch_func

PADDING = -1  # represents the id of padding, whatever id that has, and the id of a register
PATCH = -2  # represents the id of a patch of an image, which has none


@dataclass(frozen=True)
class Tokens:
    """Tokens of a text as far as it has been read, in storage order.

    Args:
        ids: (B, S) token ids, `PADDING` at padding and registers, `PATCH` at patches; in decoding they start with those
            in the cache.
        segments: (B, S) document number of each token; None if a row is one document.
    """

    ids: Tensor
    segments: Tensor | None = None

    @property
    def length(self) -> int:
        """Number of tokens S so far."""
        return self.ids.shape[1]


def read_number(x: Tensor, instead: str) -> int:
    """Return the number in a tensor; raise ValueError, with what to do instead, under transforms of torch.func."""
    if is_under_torch_func():  # they map over rows, and no row knows a number of all
        raise ValueError(f"{instead} with step=private, under which nothing can depend on all rows together")
    return int(x)


def require_ids(name: str, ids: Sequence[int], vocab_size: int) -> None:
    """Raise ValueError, starting with the name of an argument, for ids of tokens beyond a vocabulary."""
    if (largest := max(ids)) >= vocab_size:
        raise ValueError(f"{name} must be below {vocab_size:,}, the number of tokens of the vocabulary, got {largest}")

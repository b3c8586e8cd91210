"""Visibility of keys, of which only some routes make a mask. Dimension letters: B batch, T queries, S keys."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from poslab.encodings.positions import Positions, first_of_document


@dataclass(frozen=True)
class Visibility:
    """Rules for which of S keys each of T queries sees; a key must pass all, and causality follows storage order.

    The last query is at the last key (S - T keys before the first query come from a cache), except in attention that is
    not causal and has no window, where storage order does not matter.

    Args:
        causal: True hides later keys.
        window: a query sees the last `window` keys, its own included, and without causality as many ahead; None: all.
        query_segments, key_segments: (B, T) and (B, S) document numbers; a query sees its own document only.
        real_keys: (B, S) bool, False at padding, which no query sees.
    """

    causal: bool = True
    window: int | None = None
    query_segments: Tensor | None = None
    key_segments: Tensor | None = None
    real_keys: Tensor | None = None
    block_masks: dict[tuple[int, int], Any] = field(default_factory=dict, init=False, repr=False, compare=False)
    """Masks made by FlexAttention, by T and S."""

    def __post_init__(self) -> None:
        if type(self.causal) is not bool:
            raise ValueError(f"causal must be True or False, got {self.causal!r}")
        _check_count("window", self.window)
        if (self.query_segments is None) != (self.key_segments is None):
            raise ValueError("segments must be given for queries and keys, or for neither")

    @classmethod
    def between(
        cls,
        query_positions: Positions,
        key_positions: Positions,
        *,
        causal: bool = True,
        window: int | None = None,
        chunk: int | None = None,
        real_keys: Tensor | None = None,
        dropped: int | Tensor = 0,
    ) -> Visibility:
        """Return the visibility of tokens at these positions, with their documents.

        With a chunk, each document falls into chunks of so many tokens, padding not counted, and a query sees its own
        chunk only, as if it were a document. The queries must then be the last of the keys. `dropped` are the tokens
        before the keys that a cache has dropped, padding not counted, of a single document: a number, or (B, 1).

        Raises:
            ValueError: for a window or a chunk that is not a positive integer.
        """
        _check_count("chunk", chunk)
        if chunk is None or (isinstance(dropped, int) and chunk >= dropped + key_positions.length):
            return cls(causal, window, query_positions.segments, key_positions.segments, real_keys)
        chunks = chunks_of(key_positions, chunk, real_keys, dropped)
        if real_keys is None:  # true anyway, and routes need not look further
            window = chunk if window is None else min(window, chunk)
        return cls(causal, window, chunks[:, chunks.shape[1] - query_positions.length :], chunks, real_keys)

    def for_rows(self, num_rows: int) -> Visibility:
        """Return the same rules for each of several rows; one row of a rule is for all."""
        query_segments, key_segments, real_keys = (
            None if x is None else x.expand(num_rows, -1)
            for x in (self.query_segments, self.key_segments, self.real_keys)
        )
        return Visibility(self.causal, self.window, query_segments, key_segments, real_keys)

    def hides_nothing(self, num_queries: int, num_keys: int) -> bool:
        """Return True if each of T queries, the last ones, sees each of S keys; False if that depends on tensors."""
        later = self.causal and num_queries > 1
        return not later and self._has_no_other_rule(num_keys)

    def hides_only_later_keys(self, num_queries: int, num_keys: int) -> bool:
        """Return True if T = S and causality is the only rule."""
        return self.causal and num_queries == num_keys and self._has_no_other_rule(num_keys)

    def _has_no_other_rule(self, num_keys: int) -> bool:
        within_window = self.window is None or self.window >= num_keys
        return within_window and self.query_segments is None and self.real_keys is None

    def mask(
        self,
        num_queries: int,
        num_keys: int,
        device: torch.device,
        rows: slice = slice(None),
        keys: slice = slice(None),
    ) -> Tensor | None:
        """Return True where a query sees a key, (1 or B, 1, T, S) bool; None if every query sees every key.

        `rows` and `keys` are slices of the T queries and S keys for which it is made.
        """
        visible: Tensor | None = None
        if (self.causal and num_queries > 1) or self.window is not None:
            queries = torch.arange(num_keys - num_queries, num_keys, device=device)[rows].unsqueeze(-1)
            distance = queries - torch.arange(num_keys, device=device)[keys]
            visible = distance >= 0 if self.causal else torch.ones_like(distance, dtype=torch.bool)
            if self.window is not None:
                visible = visible & (distance.abs() < self.window)
            visible = visible[None, None]
        if self.query_segments is not None and self.key_segments is not None:
            same = self.query_segments[:, None, rows, None] == self.key_segments[:, None, None, keys]
            visible = same if visible is None else visible & same
        if self.real_keys is not None:
            real = self.real_keys[:, None, None, keys]
            visible = real if visible is None else visible & real
        return visible

    def counts(self, num_queries: int, num_keys: int, device: torch.device) -> Tensor:
        """Return the number of keys that each query sees, (1 or B, T) float32, without a mask of T x S."""
        if self.query_segments is not None and not self.causal:
            visible = self.mask(num_queries, num_keys, device)
            assert visible is not None
            return visible.sum(-1, dtype=torch.float32)[:, 0]
        queries = torch.arange(num_keys - num_queries, num_keys, device=device)[None]
        # A query sees the real keys from `first` to `stop - 1`.
        first, stop = torch.zeros_like(queries), torch.full_like(queries, num_keys)
        if self.causal and num_queries > 1:
            stop = queries + 1
        if self.window is not None:
            first = (queries - self.window + 1).clamp_min(0)
            stop = torch.minimum(stop, queries + self.window)
        if self.key_segments is not None:
            first = torch.maximum(first, first_of_document(self.key_segments)[:, num_keys - num_queries :])
        if self.real_keys is None:
            return (stop - first).float()
        before = functional.pad(self.real_keys.cumsum(1), (1, 0))
        rows = before.shape[0]
        return (before.gather(1, stop.expand(rows, -1)) - before.gather(1, first.expand(rows, -1))).float()


def _check_count(name: str, count: int | None) -> None:
    if count is not None and (type(count) is not int or not 1 <= count < 2**63):  # at most what int64 represents
        raise ValueError(f"{name} must be a positive integer or None, got {count!r}")


def chunks_of(positions: Positions, chunk: int, real: Tensor | None = None, dropped: int | Tensor = 0) -> Tensor:
    """Return a number of the chunk of each token, (1 or B, S), which no other chunk of its row has.

    Args:
        positions: of the tokens.
        chunk: tokens of a chunk.
        real: (B, S) bool, False at padding, which is not counted; None if there is none.
        dropped: as of `Visibility.between`.
    """
    index = torch.arange(positions.length, device=positions.ids.device)[None]
    if real is not None:
        index = functional.pad(real.cumsum(1), (1, -1))
    if positions.segments is None:
        return (index + dropped) // chunk
    segments = positions.segments.long()
    rows = max(len(index), len(segments))
    index, first = index.expand(rows, -1), first_of_document(segments).expand(rows, -1)
    return segments * (positions.length + 1) + (index - index.gather(1, first)) // chunk

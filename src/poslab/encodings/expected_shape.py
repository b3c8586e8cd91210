"""Sizes of tables, so that attention can refuse others. Dimension letters: B batch, H heads, T queries, S keys."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class TableShape(NamedTuple):
    """Sizes and device of tables: rows of the batch (1 serves all), T and S."""

    num_rows: int
    num_queries: int
    num_keys: int
    device: torch.device

    @classmethod
    def of(cls, query_table: Tensor, key_table: Tensor) -> TableShape:
        """Return the sizes of tables (B, heads, T, any) and (B, heads, S, any); fewer dimensions have no B."""
        rows = [x.shape[0] for x in (query_table, key_table) if x.dim() == 4]
        return cls(max(rows, default=1), query_table.shape[-2], key_table.shape[-2], key_table.device)


def require_heads(name: str, heads: int, num_heads: int) -> None:
    """Raise ValueError, beginning with the name of an operand, unless it has one head for all H, or one for each."""
    if heads not in (1, num_heads):
        raise ValueError(f"{name} must have one head, or one for each of {num_heads}, got {heads}")

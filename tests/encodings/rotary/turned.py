"""Queries and keys as they meet, for the tests of this folder."""

from torch import Tensor

from poslab.encodings import PositionalEncoding, Positions


def turned(encoding: PositionalEncoding, positions: Positions, query: Tensor, key: Tensor) -> tuple[Tensor, Tensor]:
    """Queries (B, H, T, D) and keys (B, G, T, D) of a text, turned by an encoding."""
    tables = encoding.prepare(positions, positions)
    return encoding.rotate_query(query, tables), encoding.rotate_key(key, tables)

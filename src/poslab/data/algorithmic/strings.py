"""Symbols by number, and random strings of symbols."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def draw(symbols: Sequence[str], length: int, generator: np.random.Generator) -> tuple[str, ...]:
    """A string of that length, each of its symbols as likely as every other, also one that is there already."""
    # All at once, and then Python's own integers: one draw a symbol costs a microsecond each.
    return tuple([symbols[index] for index in generator.integers(len(symbols), size=length).tolist()])


def numbered(count: int, prefix: str = "") -> tuple[str, ...]:
    """That many symbols, numbered from 0: `numbered(3, "k")` is ("k0", "k1", "k2")."""
    return tuple([f"{prefix}{number}" for number in range(count)])

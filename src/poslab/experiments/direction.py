"""Direction of the better values of a metric."""

from __future__ import annotations

from typing import Literal

Direction = Literal["minimize", "maximize"]
"""Direction of the better values: small ones, or large ones."""


def better(direction: Direction) -> str:
    """Return the word for better values: lower or higher."""
    return "lower" if direction == "minimize" else "higher"


def sign(direction: Direction) -> int:
    """Return the factor that makes a gain of a value: 1 where large values are good, else -1."""
    return -1 if direction == "minimize" else 1

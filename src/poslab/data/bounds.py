"""Ranges of arguments, and what is said of one that leaves them."""

from __future__ import annotations

from typing import Any


def require_integer(name: str, value: Any, least: int, most: int | None = None) -> None:
    """Raises ValueError for an argument that is not an integer from `least` on, up to `most` where there is one."""
    fits = isinstance(value, int) and not isinstance(value, bool) and value >= least
    if not fits or (most is not None and value > most):
        kind = "a positive integer" if least == 1 else f"an integer of at least {least}"
        bounds = kind if most is None else f"an integer from {least} to {most}"
        raise ValueError(f"{name} must be {bounds}, got {value!r}")

"""Ranges of arguments, and what is said of one that leaves them."""

from __future__ import annotations


def require_integer(name: str, value: int, least: int, most: int | None = None) -> None:
    """Raises ValueError for an argument that is not an integer from `least` on, up to `most` where there is one."""
    fits = isinstance(value, int) and not isinstance(value, bool) and value >= least
    if not fits or (most is not None and value > most):
        bounds = f"of at least {least}" if most is None else f"from {least} to {most}"
        raise ValueError(f"{name} must be an integer {bounds}, got {value!r}")

"""Checks of arguments: integers within bounds, and names of what there is."""

from collections.abc import Iterable
from typing import Any

from poslab.arguments import nearest


def require_choice(name: str, value: str, available: Iterable[str]) -> None:
    """Raise ValueError for an argument that names nothing available."""
    names = list(available)
    if value not in names:
        raise ValueError(f"{name} must be one of {', '.join(names)}, got {value!r}{nearest(value, names)}")


def require_integer(name: str, value: Any, least: int, most: int | None = None) -> None:
    """Raise ValueError for an argument that is not an integer of at least `least` and, if given, at most `most`."""
    fits = isinstance(value, int) and not isinstance(value, bool) and value >= least
    if not fits or (most is not None and value > most):
        kind = "a positive integer" if least == 1 else f"an integer of at least {least}"
        bounds = kind if most is None else f"an integer from {least} to {most}"
        raise ValueError(f"{name} must be {bounds}, got {value!r}")

"""Words of the sentences in reports."""

from __future__ import annotations

from collections.abc import Sequence


def listed(names: Sequence[str], last: str = "and") -> str:
    """Return names in words: `a`, `a and b`, `a, b and c`; `or`, where that is the last word between them."""
    *before, end = names
    return f"{', '.join(before)} {last} {end}" if before else end


def amount(count: int, noun: str) -> str:
    """Return `1 seed` or `5 seeds`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def are(names: Sequence[str]) -> str:
    """Return the verb after these names."""
    return "is" if len(names) == 1 else "are"


def has(names: Sequence[str]) -> str:
    """Return the verb after these names."""
    return "has" if len(names) == 1 else "have"


def roughly(seconds: float) -> str:
    """Return a duration in words, as exactly as an estimate is: `about 3 h`."""
    units = {"days": 86400, "h": 3600, "min": 60}
    unit, size = next(((unit, size) for unit, size in units.items() if seconds >= 1.5 * size), ("s", 1))
    return f"about {max(10, round(seconds, -1)) if size == 1 else seconds / size:.0f} {unit}"

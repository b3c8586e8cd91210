"""Numbers as text: enough digits to distinguish them, alike within a column."""

from __future__ import annotations

import math
from collections.abc import Sequence

SIGNIFICANT = 4
"""Digits of a number on its own, and of the smallest one of a column."""


def readable(numbers: Sequence[float]) -> list[str]:
    """Format the numbers of one column, which may be infinite but not NaN.

    Whole numbers stay whole. Others share a number of decimals, at most 4. If they differ by more than a factor of
    1000, or some are below 0.001 or at least 1e7, each has four significant digits of its own.

        readable([256, 4096]) == ["256", "4,096"]
        readable([0.5, 0.03125]) == ["0.5000", "0.0312"]
        readable([1e-05, 0.5, 1234.5]) == ["1.000e−5", "0.5000", "1,234"]
    """
    sizes = [abs(number) for number in numbers if number and math.isfinite(number)]
    if all(size == int(size) and size < 1e15 for size in sizes):
        return [fixed(number, 0) for number in numbers]
    smallest, largest = min(sizes), max(sizes)
    if smallest < 1e-3 or largest >= 1e7 or largest > 1000 * smallest:
        return [_alone(number) for number in numbers]
    decimals = min(_decimals(smallest), SIGNIFICANT)
    return [fixed(number, decimals) for number in numbers]


def _decimals(number: float) -> int:
    """Return how many decimals show the significant digits of a number above zero."""
    return max(0, SIGNIFICANT - 1 - math.floor(math.log10(number)))


def fixed(number: float, decimals: int) -> str:
    """Format a number, which may be infinite but not NaN, with this many decimals."""
    if math.isinf(number):
        return "∞" if number > 0 else "−∞"
    return f"{number:,.{decimals}f}".replace("-", "−")


def _alone(number: float) -> str:
    if not number or math.isinf(number):
        return fixed(number, 0)
    if 1e-3 <= abs(number) < 1e7:
        return fixed(number, _decimals(abs(number)))
    mantissa, exponent = f"{number:.{SIGNIFICANT - 1}e}".split("e")
    return f"{mantissa}e{int(exponent)}".replace("-", "−")

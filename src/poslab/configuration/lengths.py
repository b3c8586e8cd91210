"""Lengths as people type them: `512`, or as multiples of the training length `4x` and `0.5x`."""

from __future__ import annotations

from fractions import Fraction

LENGTH = r"[1-9]\d{0,8}|(?=[\d.]*[1-9])\d{1,9}(\.\d{1,9})?x"
"""Pattern of a length."""


def tokens(length: int | str, trained: int) -> Fraction:
    """Return a length in the unit of `trained`, the training length; a multiple may give a fraction of a token."""
    text = str(length)
    return Fraction(text.removesuffix("x")) * (trained if text.endswith("x") else 1)


def whole_tokens(length: int | str, trained: int) -> int:
    """Return a length in the unit of `trained`, the training length.

        whole_tokens("0.5x", 64) == 32

    Raises:
        ValueError: for a multiple that is not a positive integer.
    """
    found = tokens(length, trained)
    if found < 1 or found.denominator > 1:
        raise ValueError(
            f"lengths must be whole numbers, and {length} of the training length, {trained:,}, is {float(found):,g}"
        )
    return int(found)

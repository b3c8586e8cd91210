"""Lower bound that a context length sets on the base of rotary.

    B(m) = sum over i < D / 2 of cos(m * base ** (-2i / D)) >= 0    for every distance m = 0, 1, ..., L - 1

For random contents, B(m) is, up to a positive factor, the mean logit of a key that resembles the query minus that of
any other key, m tokens away. If B(m) is negative, a key scores lower the more it resembles the query, and no head can
look for "the same, wherever it is". Everything is float64.

The bases that satisfy the bound do not form one interval: B(m) oscillates in the base as in the distance, so gaps lie
above the smallest base that satisfies it. A bisection can land on any edge of these islands.

Source: Men et al., "Base of RoPE Bounds Context Length" (NeurIPS 2024, arXiv 2405.14591).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Floats = NDArray[np.float64]

RESOLUTION = 1e-8
"""Relative width below which an interval of bases is split no further."""

BLOCK = 2**16
"""Distances at a time, so that memory does not grow with the length."""

FEW = 500
"""Longest list of distances that is cheaper to evaluate one by one."""

REMEMBERED = 64
"""Distances that ruled out the last bases, and are tried first on the next."""


def holds(base: float, head_dim: int, length: int) -> bool:
    """Return whether the bound holds at this base for texts of `length` tokens: `holds(1e4, 64, 1024)` is False.

    Raises:
        ValueError: for a base of at most 1, a head_dim that is odd or below 2, or a length below 1.
    """
    return first_violation(plain_spectrum(base, head_dim), length) is None


def first_violation(inverse_frequencies: Floats, length: int) -> int | None:
    """Return the smallest distance below `length` at which the sum of cosines is negative; None if there is none.

    The inverse frequencies may be of any spectrum, a scaled one too: radians per token, one for each pair of channels
    (P,), with 0 for a pair that does not turn.

    Raises:
        ValueError: for a length below 1.
    """
    for start, sums in blocks_of_sums(inverse_frequencies, length):
        violations = np.flatnonzero(sums < 0)
        if violations.size:
            return start + int(violations[0])
    return None


def margin(base: float, head_dim: int, length: int) -> float:
    """Return the smallest sum of cosines over all distances below `length`; negative if the bound is violated.

    Raises:
        ValueError: as `holds`.
    """
    return min(float(sums.min()) for _, sums in blocks_of_sums(plain_spectrum(base, head_dim), length))


@functools.cache
def smallest_base(head_dim: int, length: int, high: float = 1e9) -> float | None:
    """Return the smallest base at which the bound holds: `smallest_base(128, 4096)` is 26,952.3.

    No smaller base satisfies the bound, within the resolution of `islands`. On one core, at D = 128, it takes about two
    seconds for L = 32,768 and ten for 131,072.

    Args:
        head_dim: channels D of a head, all of which turn; even.
        length: tokens L, at least 1. Texts of one or two tokens set no bound, and the base is 1.
        high: end of the search; above 1.

    Returns:
        The base, or None if no base up to `high` satisfies the bound; with D = 2 and L >= 3 none ever does.

    Raises:
        ValueError: for an argument out of its range.
    """
    return next((math.exp(left) for left, _ in _satisfied(head_dim, length, 1.0, high)), None)


def islands(head_dim: int, length: int, low: float, high: float) -> pd.DataFrame:
    """Return the intervals of bases between `low` and `high` at which the bound holds.

    All bases in them satisfy it, and none outside does, up to float64's rounding. Islands and gaps narrower than 1e-8
    of their base are missed, and edges may be off by as much.

    Args:
        head_dim, length: as in `smallest_base`.
        low, high: bases, 1 <= low < high; they cut islands that extend beyond them.

    Returns:
        A row for each island in ascending order: `lowest base`, `highest base`.

    Raises:
        ValueError: for an argument out of its range.
    """
    found: list[tuple[float, float]] = []
    for left, right in _satisfied(head_dim, length, low, high):
        joined = bool(found) and found[-1][1] == left
        found.append((found.pop()[0] if joined else left, right))
    return pd.DataFrame(np.exp(np.array(found).reshape(-1, 2)), columns=["lowest base", "highest base"])


def plain_spectrum(base: float, head_dim: int) -> Floats:
    """Return the inverse frequencies `base ** (-2i / D)`, (D / 2,) float64.

    Raises:
        ValueError: for a base of at most 1, or a head_dim that is odd or below 2.
    """
    if not 1 < base < math.inf:
        raise ValueError(f"base must be a number greater than 1, got {base}")
    return np.asarray(base ** -_exponents(head_dim), dtype=np.float64)


def blocks_of_sums(inverse_frequencies: Floats, length: int) -> Iterator[tuple[int, Floats]]:
    """Yield the sums of cosines at all distances below `length`, block by block, each with its first distance."""
    _check_length(length)
    ones = np.ones(len(inverse_frequencies))
    for start in range(0, length, BLOCK):
        yield start, _waves(ones, inverse_frequencies, start, min(start + BLOCK, length)).real


def _satisfied(head_dim: int, length: int, low: float, high: float) -> Iterator[tuple[float, float]]:
    """Yield intervals of ln base in which the bound holds, in ascending order; neighbours share an end.

    One distance whose sum is negative throughout an interval rules it out; it is confirmed when no distance is left
    whose sum may be negative somewhere in it. Otherwise it is split in half.
    """
    exponents = _exponents(head_dim)
    _check_length(length)
    if not 1 <= low < math.inf:
        raise ValueError(f"low must be a number of at least 1, got {low}")
    if not low < high < math.inf:
        raise ValueError(f"high must be greater than low, which is {low}, got {high}")
    every = np.arange(1.0, length)
    remembered = every[:0]
    waiting: list[tuple[float, float, Floats | None]] = [(math.log(low), math.log(high), None)]
    while waiting:
        left, right, doubtful = waiting.pop()
        at = functools.partial(_sums_within, exponents, (left + right) / 2, (right - left) / 2)
        tried = remembered if doubtful is None else doubtful
        sums, radius = at(tried)
        if doubtful is None and not (sums < 0).any():
            # The remembered distances do not rule out the centre; only now pay for all of them.
            tried = every
            sums, radius = at(tried)
            if (sums < 0).any():
                remembered = np.append(remembered, every[sums.argmin()])[-REMEMBERED:]
        if (sums + radius < 0).any():
            continue
        if tried is not remembered:
            rest = tried[sums < radius]
            if not rest.size:
                yield left, right
                continue
            doubtful = rest if rest.size <= FEW else None
        if right - left > RESOLUTION:
            middle = (left + right) / 2
            waiting += [(middle, right, doubtful), (left, middle, doubtful)]


def _sums_within(exponents: Floats, centre: float, half_width: float, distances: Floats) -> tuple[Floats, Floats]:
    """Return the sums at the centre of an interval of x = ln base, and how far they may deviate within it.

    With the phases p_i = m exp(-u_i x), u_i = 2i / D, Taylor's theorem bounds the deviation by

        |B'(x)| h + max |B''| h^2 / 2,    B' = sum u_i p_i sin p_i,    |B''| <= sum u_i^2 (p_i + p_i^2)

    and the phases are largest at the left end. The distances m, (N,), are all from 1 to N if they exceed `FEW`.
    """
    frequencies = np.exp(-exponents * centre)
    if distances.size > FEW:
        stop = distances.size + 1
        sums = _waves(np.ones(len(exponents)), frequencies, 1, stop).real
        slopes = distances * _waves(exponents * frequencies, frequencies, 1, stop).imag
    else:
        phases = np.outer(distances, frequencies)
        sums = np.cos(phases).sum(1)
        slopes = (exponents * phases * np.sin(phases)).sum(1)
    fastest = exponents * np.exp(-exponents * (centre - half_width))
    curvature = distances * (exponents @ fastest) + distances**2 * (fastest @ fastest)
    return sums, np.abs(slopes) * half_width + curvature * half_width**2 / 2


def _waves(weights: Floats, frequencies: Floats, start: int, stop: int) -> NDArray[np.complex128]:
    """Return `sum over i of weights_i exp(1j * m * frequencies_i)` for m = start, ..., stop - 1.

    By the addition theorem it takes 2 sqrt(N) distances instead of N: a product of two small matrices.
    """
    columns = math.isqrt(stop - start - 1) + 1
    rows = -(-(stop - start) // columns)
    coarse = np.exp(1j * np.outer(start + columns * np.arange(rows), frequencies))
    fine = np.exp(1j * np.outer(frequencies, np.arange(columns)))
    waves: NDArray[np.complex128] = ((coarse * weights) @ fine).ravel()[: stop - start]
    return waves


def _exponents(head_dim: int) -> Floats:
    """Return `2i / D` for i = 0, ..., D / 2 - 1."""
    if head_dim < 2 or head_dim % 2:
        raise ValueError(f"head_dim must be an even number of at least 2, got {head_dim}")
    return np.arange(0.0, head_dim, 2) / head_dim


def _check_length(length: int) -> None:
    if not length >= 1:
        raise ValueError(f"length must be at least 1, got {length}")

"""Lower bound that a context length sets on the base of rotary, as a table and a plot.

    B(m) = sum over i < D / 2 of cos(m * base ** (-2i / D)) >= 0    for every distance m = 0, 1, ..., L - 1

For random contents, B(m) is, up to a positive factor, the mean logit of a key that resembles the query minus the
logit of any other key, m tokens away. If B(m) is negative, a key scores lower the more it resembles the query, and no
head can look for "the same, wherever it is". Everything is float64.

The bases that satisfy the bound do not form one interval: B(m) oscillates in the base as in the distance, so gaps lie
above the smallest base that satisfies it. A bisection can end in any of these gaps.

Source: Men et al., "Base of RoPE Bounds Context Length" (NeurIPS 2024, arXiv 2405.14591).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axis import Axis
from matplotlib.lines import Line2D
from matplotlib.ticker import NullLocator

from poslab.pretrained.inspection.spectrum import Floats, blocks_of_sums, check_length, first_violation, waves
from poslab.report.figures import COLOURS, WIDTH, Plot, Table, new_figure

RESOLUTION = 1e-8  # relative width below which an interval of bases is split no further
MAX_BASE = 1e9  # largest base of the search
FEW = 500  # longest list of distances that is cheaper to evaluate one by one
REMEMBERED = 64  # distances that ruled out the last bases, and are tried first on the next

SOURCE = "Men et al., Base of RoPE Bounds Context Length (NeurIPS 2024, arXiv 2405.14591)"


@functools.cache
def smallest_base(head_dim: int, length: int) -> float | None:
    """Return the smallest base that satisfies the bound: `smallest_base(128, 4096)` is 26,952.3.

    No smaller base satisfies the bound, except in an interval narrower than 1e-8 of the base. On one core, at D = 128,
    it takes about two seconds for L = 32,768 and ten for 131,072.

    One distance whose sum is negative throughout an interval of bases rules it out; it is confirmed when no distance is
    left whose sum may be negative somewhere in it. Otherwise it is split in half. ValueError for an argument out of its
    range.

    Args:
        head_dim: channels D of a head, all of which rotate; even.
        length: tokens L, at least 1. Texts of one or two tokens set no bound, and the base is 1.

    Returns:
        The base, or None if no base up to `MAX_BASE` satisfies the bound; with D = 2 and L >= 3 none ever does.
    """
    exponents = _exponents(head_dim)
    check_length(length)
    every = np.arange(1.0, length)
    remembered = every[:0]
    waiting: list[tuple[float, float, Floats | None]] = [(0.0, math.log(MAX_BASE), None)]  # of ln base, the lowest last
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
                return math.exp(left)
            doubtful = rest if rest.size <= FEW else None
        if right - left > RESOLUTION:
            middle = (left + right) / 2
            waiting += [(middle, right, doubtful), (left, middle, doubtful)]
    return None


def _sums_within(exponents: Floats, centre: float, half_width: float, distances: Floats) -> tuple[Floats, Floats]:
    """Return the sums at the centre of an interval of x = ln base, and how far they may deviate within it.

    With the phases p_i = m exp(-u_i x), u_i = 2i / D, Taylor's theorem bounds the deviation by

        |B'(x)| h + max |B''| h^2 / 2,    B' = sum u_i p_i sin p_i,    |B''| <= sum u_i^2 (p_i + p_i^2)

    and the phases are largest at the left end. The distances m, (N,), are all from 1 to N if they exceed `FEW`.
    """
    frequencies = np.exp(-exponents * centre)
    if distances.size > FEW:
        stop = distances.size + 1
        sums = waves(np.ones(len(exponents)), frequencies, 1, stop).real
        slopes = distances * waves(exponents * frequencies, frequencies, 1, stop).imag
    else:
        phases = np.outer(distances, frequencies)
        sums = np.cos(phases).sum(1)
        slopes = (exponents * phases * np.sin(phases)).sum(1)
    fastest = exponents * np.exp(-exponents * (centre - half_width))
    curvature = distances * (exponents @ fastest) + distances**2 * (fastest @ fastest)
    return sums, np.abs(slopes) * half_width + curvature * half_width**2 / 2


def plain_spectrum(base: float, head_dim: int) -> Floats:
    """Return the inverse frequencies `base ** (-2i / D)`, (D / 2,) float64.

    ValueError for a base of at most 1, or a head_dim that is odd or below 2.
    """
    if not 1 < base < math.inf:
        raise ValueError(f"base must be a number greater than 1, got {base}")
    return np.asarray(base ** -_exponents(head_dim), dtype=np.float64)


def plain_base(spectrum: Floats) -> float | None:
    """Return the base of which a spectrum is `base ** (-2i / D)` up to float32's rounding; None if there is none."""
    pairs = len(spectrum)
    if pairs < 2 or not 0 < spectrum[-1] < 1:
        return None
    base = float(spectrum[-1]) ** (-pairs / (pairs - 1))
    # Six digits restore the configured base, from before the rounding.
    return float(f"{base:.6g}") if np.allclose(spectrum, plain_spectrum(base, 2 * pairs), rtol=1e-6, atol=0) else None


def _exponents(head_dim: int) -> Floats:
    """Return `2i / D` for i = 0, ..., D / 2 - 1."""
    if head_dim < 2 or head_dim % 2:
        raise ValueError(f"head_dim must be an even number of at least 2, got {head_dim}")
    return np.arange(0.0, head_dim, 2) / head_dim


def bound_by_length(spectra: Mapping[int, Floats], longest_search: int) -> Table:
    """Return whether each length satisfies the bound, its first violation, and the smallest base without one.

    The spectra are inverse frequencies, (D / 2,) float64 with 0 for pairs that do not rotate, by the length in tokens.
    The smallest base is searched up to `longest_search` tokens, and only for a plain spectrum `base ** (-2i / D)`: a
    larger base does not by itself improve another one.
    """
    rows = []
    for length, spectrum in spectra.items():
        violation, base = first_violation(spectrum, length), plain_base(spectrum)
        is_searched = base is not None and length <= longest_search
        rows.append(
            {
                "length": length,
                "base": np.nan if base is None else base,
                "bound holds": violation is None,
                "first violated at distance": violation,
                "smallest base that holds": smallest_base(2 * len(spectrum), length) if is_searched else None,
            }
        )
    frame = pd.DataFrame(rows).astype({"first violated at distance": "Int64", "smallest base that holds": "Float64"})
    return Table(
        name="rotary_base_bound",
        title="The lower bound on the base",
        caption="The bound is met at a length if a token that resembles the query scores above others on average at "
        "every distance in such a text; otherwise the table has the first distance at which it fails. Bases above the "
        f"smallest may fail again; the search leaves out lengths above {longest_search:,} tokens, and frequencies that "
        "are not powers of one base over the whole head.",
        source=SOURCE,
        frame=frame,
    )


def sums_plot(inverse_frequencies: Floats, training_length: int, lengths: Sequence[int], bins: int = 700) -> Plot:
    """Draw the sum of cosines up to the longest of all lengths (tokens), with zero and the first violation marked.

    The smallest and the largest sum of each bin of distances are drawn, so that no violation is lost. The inverse
    frequencies are (P,) float64, with 0 for pairs that do not rotate.
    """
    stop = max([training_length, *lengths])
    edges = np.unique(np.geomspace(1, max(stop, 2), bins + 1).astype(np.int64))[:-1]
    low, high = np.full(len(edges), np.inf), np.full(len(edges), -np.inf)
    for start, sums in blocks_of_sums(inverse_frequencies, stop):
        # A logarithmic axis has no distance 0, where the sum is the number of pairs.
        distances = np.arange(max(start, 1), start + len(sums))
        bin_of = np.searchsorted(edges, distances, side="right") - 1
        np.minimum.at(low, bin_of, sums[distances - start])
        np.maximum.at(high, bin_of, sums[distances - start])
    figure = new_figure(WIDTH, 4.0)
    axes = figure.add_subplot()
    axes.set_xscale("log")
    axes.fill_between(edges, low, high, color=COLOURS[0], alpha=0.4, linewidth=0)
    axes.plot(edges, low, color=COLOURS[0], lw=0.9)
    if (low < 0).any():
        axes.fill_between(edges, np.minimum(low, 0), 0, color=COLOURS[1], linewidth=0, label="violated")
    axes.axhline(0, color="black", lw=1)
    draw_lengths(axes.axvline, axes.secondary_xaxis("top").xaxis, training_length, lengths, rotation=90)
    violation = first_violation(inverse_frequencies, stop)
    if violation is not None:
        label = f"first violated at distance {violation:,}"
        axes.plot(violation, 0, "v", color="black", markersize=8, label=label, zorder=4)
    axes.legend(loc="lower left", fontsize="small")
    axes.set(xlabel="distance m (tokens)", ylabel="sum of cosines B(m)")
    return Plot(
        name="rotary_sum_of_cosines",
        title="The sum of cosines over distance",
        caption="Above zero, a token at that distance that resembles the query scores above others on average; below "
        "zero it scores below them, and a text should be no longer than the first such distance. The band spans the "
        "distances of one point of the axis.",
        source=SOURCE,
        figure=figure,
    )


def draw_lengths(
    line: Callable[..., Line2D], opposite: Axis, training_length: int, lengths: Sequence[int], rotation: float = 0.0
) -> None:
    """Draw a line at each length, with its number, rotated by degrees, on the axis opposite to the one of tokens.

    `line` is `axhline` or `axvline` of the axes, and `opposite` the x or y axis of a secondary axis on the other side.
    """
    test_lengths = sorted(set(lengths) - {training_length})
    line(training_length, color="black", lw=1, zorder=1, label="training length")
    for number, length in enumerate(test_lengths):
        line(length, color="grey", ls="--", lw=1, zorder=1, label=None if number else "test lengths")
    every = [training_length, *test_lengths]
    opposite.set_minor_locator(NullLocator())
    opposite.set_ticks(every, labels=[f"{length:,}" for length in every], fontsize="small", rotation=rotation)

"""Figures of the lower bound on the base: over lengths, over distance and over bases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from poslab.evaluation.rotary.base_bound import (
    Floats,
    blocks_of_sums,
    first_violation,
    islands,
    margin,
    plain_spectrum,
    smallest_base,
)
from poslab.evaluation.rotary.wavelengths import draw_lengths
from poslab.report.figures import COLOURS, WIDTH, Plot, Table, new_figure

SOURCE = "Men et al., Base of RoPE Bounds Context Length (NeurIPS 2024, arXiv 2405.14591)"


def bound_by_length(spectra: Mapping[int, Floats], longest_search: int) -> Table:
    """Return whether the bound holds for each length, its first violation, and the smallest base that satisfies it.

    The spectra are inverse frequencies, (D / 2,) float64 with 0 for pairs that do not turn, by the length in tokens.
    The smallest base is searched up to `longest_search` tokens, and only for a plain spectrum `base ** (-2i / D)`: a
    larger base alone does not improve another one.
    """
    rows = []
    for length, spectrum in spectra.items():
        violation = first_violation(spectrum, length)
        base = plain_base(spectrum)
        searched = base is not None and length <= longest_search
        rows.append(
            {
                "length": length,
                "base": np.nan if base is None else base,
                "bound holds": violation is None,
                "first violated at distance": violation,
                "smallest base that holds": smallest_base(2 * len(spectrum), length) if searched else None,
            }
        )
    frame = pd.DataFrame(rows).astype({"first violated at distance": "Int64", "smallest base that holds": "Float64"})
    return Table(
        name="rotary_base_bound",
        title="The lower bound on the base",
        caption=(
            "The bound holds for a length if a token that resembles the query scores above others on average at every "
            "distance in such a text; otherwise the table gives the first distance at which it fails. Bases above the "
            f"smallest may fail again; the search leaves out lengths above {longest_search:,} tokens, and frequencies "
            "that are not powers of one base over the whole head."
        ),
        source=SOURCE,
        frame=frame,
    )


def sums_plot(inverse_frequencies: Floats, training_length: int, lengths: Sequence[int], bins: int = 700) -> Plot:
    """Draw the sum of cosines up to the longest of all lengths (tokens), with zero and the first violation marked.

    The smallest and the largest sum of each bin of distances are drawn, so that no violation is lost. The inverse
    frequencies are (P,) float64, with 0 for pairs that do not turn.
    """
    stop = max([training_length, *lengths])
    edges = np.unique(np.geomspace(1, max(stop, 2), bins + 1).astype(np.int64))[:-1]
    low, high = np.full(len(edges), np.inf), np.full(len(edges), -np.inf)
    for start, sums in blocks_of_sums(inverse_frequencies, stop):
        # A logarithmic axis has no distance 0, where the sum is the number of pairs.
        distances = np.arange(max(start, 1), start + len(sums))
        place = np.searchsorted(edges, distances, side="right") - 1
        np.minimum.at(low, place, sums[distances - start])
        np.maximum.at(high, place, sums[distances - start])
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
        caption=(
            "Above zero, a token at that distance that resembles the query scores above others on average, in "
            "proportion to the height of the curve; below zero it scores below them, and a text should be no longer "
            "than the first such distance. The band spans the distances that share a place on the axis."
        ),
        source=SOURCE,
        figure=figure,
    )


def islands_plot(head_dim: int, length: int, base: float | None = None, points: int = 500) -> Plot | None:
    """Draw the margin, the smallest sum of cosines, over the base, from a little below the smallest one that holds.

    The base of the encoding is marked if it is in the picture; the curve has `points` bases beside the edges of
    islands. Return None if no base up to 1e9 holds, or every one does.
    """
    smallest = smallest_base(head_dim, length)
    if smallest is None or smallest == 1:
        return None
    low, high = max(0.96 * smallest, 1 + 1e-6), 1.2 * smallest
    satisfied = islands(head_dim, length, low, high)
    bases = np.union1d(np.linspace(low, high, points), satisfied.to_numpy().ravel())
    margins = [margin(float(x), head_dim, length) for x in bases]
    figure = new_figure(WIDTH, 3.8)
    axes = figure.add_subplot()
    for left, right in satisfied.itertuples(index=False):
        axes.axvspan(left, right, color=COLOURS[2], alpha=0.4, linewidth=0, label="the bound holds")
    axes.plot(bases, margins, color=COLOURS[0], lw=1)
    axes.axhline(0, color="black", lw=1)
    axes.plot(smallest, 0, "v", color="black", markersize=8, label=f"smallest base: {smallest:,.0f}")
    if base is not None and low <= base <= high:
        here = margin(base, head_dim, length)
        axes.plot(base, here, "o", color=COLOURS[1], label=f"this encoding: {base:,.0f}", zorder=4)
    axes.set(xlim=(low, high), xlabel="base", ylabel="smallest sum of cosines")
    axes.xaxis.set_major_formatter("{x:,.0f}")
    named = dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
    axes.legend(named.values(), named.keys(), fontsize="small")
    return Plot(
        name="rotary_islands",
        title=f"Bases that hold for {length:,} tokens",
        caption=(
            f"A base satisfies the bound for {length:,} tokens at head dimension {head_dim} where the curve is at or "
            "above zero (shaded). These bases form narrow islands, and a base above the smallest one can fail."
        ),
        source=SOURCE,
        figure=figure,
    )


def plain_base(spectrum: Floats) -> float | None:
    """Return the base of which a spectrum is `base ** (-2i / D)` up to float32's rounding; None if there is none."""
    pairs = len(spectrum)
    if pairs < 2 or not 0 < spectrum[-1] < 1:
        return None
    base = float(spectrum[-1]) ** (-pairs / (pairs - 1))
    # Six digits restore the configured base, from before the rounding.
    return float(f"{base:.6g}") if np.allclose(spectrum, plain_spectrum(base, 2 * pairs), rtol=1e-6, atol=0) else None

"""Diagnostics of a rotation over several axes: which pairs read which axis, and how far each turns from edge to edge.

Dimension letters: A axes, H heads, P pairs of channels, N offsets.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.patches import Circle, Rectangle
from numpy.typing import NDArray

from poslab.encodings import StackEncodings
from poslab.evaluation.attention.maps import head_style
from poslab.evaluation.attention.offset_plots import maps_of_heads, signs_differ
from poslab.evaluation.encoding.curves import served
from poslab.evaluation.grids import Grid
from poslab.report.figures import COLOURS, WIDTH, Plot, ReportFigure, Table, panel_grid

Floats = NDArray[np.float64]

MAX_MAPS = 48
"""Most heads, of all layers, whose cosines are drawn."""

NEW_ANGLES = 1.25
"""Ratio of the ranges of coordinates above which a larger grid is said to have new angles."""

SOURCE = "Heo et al., Rotary Position Embedding for Vision Transformer (ECCV 2024), section 3"


def axis_rotations(encodings: StackEncodings, grids: Mapping[str, Grid]) -> pd.DataFrame:
    """Return how far each pair of channels turns along each axis that it reads, from edge to edge of a grid.

        turns = |F[a, h, p]| span_a / 2 pi,    wavelength in cells = (n_a - 1) / turns

    F are the inverse frequencies (`spectrum_on_axes`), and span_a the difference of the coordinates of the last and the
    first of n_a cells.

    Args:
        encodings: of a stack.
        grids: by their size in words (`at a side of 28 pixels`); the first one is that of training, whose wavelengths
            are returned.

    Returns:
        Columns `layers`, `head` (NaN where all heads are alike), `pair`, `axis`, `frequency` (with its sign),
        `wavelength in cells`, `turns PLACE` for each grid, and `never completes a turn in training`. A pair that
        stands still has no row, and neither has an axis of one cell. No rows if nothing rotates by places.
    """
    rows = []
    trained, *_ = grids.values()
    for layers, encoding, _ in served(encodings):
        found = [encoding.spectrum_on_axes(grid.lengths) for grid in grids.values()]
        spectra = [x.detach().double().cpu().numpy() for x in found if x is not None]
        if not spectra:
            continue
        for head, pair in np.ndindex(spectra[0].shape[1:]):
            for axis in np.flatnonzero(spectra[0][:, head, pair]):
                if trained.sizes[axis] == 1:
                    continue
                by_grid = zip(spectra, grids.values(), strict=True)
                turns = [abs(f[axis, head, pair]) * grid.span[axis] / (2 * np.pi) for f, grid in by_grid]
                with np.errstate(divide="ignore"):
                    wavelength = np.float64(trained.sizes[axis] - 1) / turns[0]
                row = {"layers": layers, "head": head if spectra[0].shape[1] > 1 else np.nan, "pair": pair}
                row |= {"axis": trained.axes[axis], "frequency": spectra[0][axis, head, pair]}
                row |= {"wavelength in cells": wavelength, **dict(zip(map(_turns, grids), turns, strict=True))}
                rows.append(row | {"never completes a turn in training": turns[0] < 1})
    return pd.DataFrame(rows)


def axis_figures(encodings: StackEncodings, grids: Mapping[str, Grid], turns: pd.DataFrame) -> list[ReportFigure]:
    """Return figures of `axis_rotations` of at least one row; arguments are its own.

    They are `rotary_axes`, the table, `rotary_axis_wavelengths`, for pairs that read two axes at once
    `rotary_directions`, and on two axes or more `rotary_cosines`.
    """
    axes = next(iter(grids.values())).axes
    shown = turns if turns["head"].notna().any() else turns.drop(columns="head")
    table = Table(
        name="rotary_axes",
        title="Turns of the rotary frequencies along each axis",
        caption="Each row is a pair of channels and an axis that it reads. Turns are those from edge to edge of "
        "the grid of the first example. A pair that completes none in training meets new angles in larger grids.",
        source=SOURCE,
        frame=shown if shown["layers"].nunique() > 1 else shown.drop(columns="layers"),
    )
    figures: list[ReportFigure] = [table, _wavelengths_plot(turns, grids)]
    if len(axes) > 1 and turns.groupby(["layers", "head", "pair"], dropna=False)["axis"].nunique().max() > 1:
        figures.append(_directions_plot(turns, grids))
    if len(axes) > 1 and (picture := _cosines_plot(encodings, grids)) is not None:
        figures.append(picture)
    return figures


def axis_sentence(name: str, turns: pd.DataFrame, grids: Mapping[str, Grid]) -> str:
    """Return what `axis_rotations` says of each axis; axes of which the same is true share words."""
    said: dict[str, list[str]] = {}
    (first, trained), (last, largest) = next(iter(grids.items())), list(grids.items())[-1]
    for number, axis in enumerate(trained.axes):
        own = turns[turns["axis"] == axis]
        complete, later = (int((own[_turns(place)] >= 1).sum()) for place in (first, last))
        words = f"{complete} of {len(own)} pairs of channels complete a turn from edge to edge {first}"
        words += f" ({trained.sizes[number]} cells)"
        if largest.sizes[number] != trained.sizes[number]:
            words += f", and {later} {last} ({largest.sizes[number]} cells)"
        if len(own):
            said.setdefault(words, []).append(axis)
    each = [f"along the {' and the '.join(axes)}{' alike' * (len(axes) > 1)}, {words}" for words, axes in said.items()]
    sentence = f"In {name}, {'; '.join(each)}."
    spans = list(zip(trained.axes, trained.span, largest.span, strict=True))
    growing = [axis for axis, before, after in spans if after > NEW_ANGLES * before]
    if len(turns[turns["axis"].isin(growing) & (turns[_turns(first)] < 1)]):
        where = "" if len(growing) == len(spans) else f" along the {' and the '.join(growing)}"
        sentence += f" Pairs that complete none in training meet new angles there{where}."
    elif largest.sizes != trained.sizes and not growing:
        sentence += " Its positions bring larger grids into nearly the same range, so that few angles are new there."
    return sentence


def _turns(place: str) -> str:
    return f"turns {place}"


def _wavelengths_plot(turns: pd.DataFrame, grids: Mapping[str, Grid]) -> Plot:
    axes = next(iter(grids.values())).axes
    ends = dict.fromkeys((next(iter(grids)), next(reversed(list(grids)))))
    names = list(dict.fromkeys(turns["layers"]))
    labels = {"xlabel": "pair of channels", "ylabel": "wavelength (cells)"}
    columns = min(2, len(names))
    figure, panels = panel_grid(len(names), columns, WIDTH, 3.2 if len(names) == 1 else 2.5, 1.0, True, True, **labels)
    for panel, name in zip(panels.flat, names, strict=False):
        for number, axis in enumerate(axes):
            own = turns[(turns["layers"] == name) & (turns["axis"] == axis) & np.isfinite(turns["wavelength in cells"])]
            colour = COLOURS[number]
            panel.scatter(own["pair"], own["wavelength in cells"], s=16, color=colour, alpha=0.8, label=axis, zorder=3)
        for place, line in zip(ends, ("-", "--"), strict=False):
            sizes = grids[place].sizes
            several = [number for number, size in enumerate(sizes) if size > 1]
            for number in several:
                size, label = sizes[number], f"edge to edge {place}" if number == several[0] else None
                colour = "0.4" if len({sizes[other] for other in several}) == 1 else COLOURS[number]
                panel.axhline(size - 1, color=colour, linestyle=line, linewidth=1, label=label)
        panel.set_yscale("log")
        panel.set_title(name if len(names) > 1 else "", fontsize="medium")
    figure.legend(
        *panels[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False, fontsize="small"
    )
    return Plot(
        name="rotary_axis_wavelengths",
        title="Wavelengths along each axis",
        caption="Each point is a pair of channels at the number of cells of a full turn along an axis that it reads. "
        "Points above the solid line (of the colour of the axis, where axes differ) complete no turn within a grid of "
        "training.",
        source=SOURCE,
        figure=figure,
    )


def _directions_plot(turns: pd.DataFrame, grids: Mapping[str, Grid]) -> Plot:
    """Draw the frequencies of pairs that read several axes as points of the plane of the last two."""
    (place, trained), *_ = grids.items()
    down, right = trained.axes[-2:]
    factor = dict(zip(trained.axes, np.array(trained.span) / (2 * np.pi), strict=True))
    signed = turns.assign(turns=turns["frequency"] * turns["axis"].map(factor), head=turns["head"].fillna(0))
    plane = signed.pivot_table(index=["layers", "head", "pair"], columns="axis", values="turns", fill_value=0.0)
    plane = plane.reindex(columns=list(trained.axes), fill_value=0.0).reset_index()  # an axis of one cell has no turns
    most = 1.1 * max(1.0, float(plane[[down, right]].abs().to_numpy().max()))
    names = list(dict.fromkeys(turns["layers"]))
    columns = min(3, len(names))
    labels = {"xlabel": f"turns along {right}", "ylabel": f"turns along {down}"}
    figure, panels = panel_grid(len(names), columns, WIDTH, 0.5 + WIDTH / columns, 0.8, True, True, **labels)
    for panel, name in zip(panels.flat, names, strict=False):
        for head, own in plane[plane["layers"] == name].groupby("head"):
            colour = head_style(int(head))["color"]
            panel.scatter(own[right], own[down], s=10, color=colour, alpha=0.8, label=str(int(head)), zorder=3)
        panel.add_patch(Circle((0, 0), 1, fill=False, color="0.6", linewidth=1))
        panel.axhline(0, color="0.8", linewidth=0.8)
        panel.axvline(0, color="0.8", linewidth=0.8)
        panel.set(xlim=(-most, most), ylim=(most, -most), aspect="equal")
        panel.set_title(name, fontsize="medium")
    handles = panels[0, 0].get_legend_handles_labels()
    figure.legend(*handles, title="head", loc="outside lower center", ncols=8, frameon=False, fontsize="small")
    return Plot(
        name="rotary_directions",
        title="Directions of the rotary frequencies",
        caption=f"Each point is a pair of channels: its turns from edge to edge along {right} and {down} {place}, "
        "so that its angle is the direction along which it turns, and its distance from the middle its speed. A pair "
        "of channels and its mirror image through the middle are alike. The circle is one turn.",
        source=SOURCE,
        figure=figure,
    )


def _cosines_plot(encodings: StackEncodings, grids: Mapping[str, Grid]) -> Plot | None:
    """Draw the mean cosine of the pairs that turn, by offset on the last two axes; None for very many heads."""
    trained, (place, widest) = next(iter(grids.values())), list(grids.items())[-1]
    axes = widest.axes
    steps = [span / max(1, size - 1) for span, size in zip(widest.span, widest.sizes, strict=True)]
    offsets = [np.arange(1 - size, size) for size in widest.sizes[-2:]]
    frames = []
    for layers, encoding, _ in served(encodings):
        if (spectrum := encoding.spectrum_on_axes(widest.lengths)) is None:
            continue
        spectrum_AHP = spectrum.detach().double().cpu().numpy() * np.array(steps)[:, None, None]
        for head, frequency_AP in enumerate(spectrum_AHP.transpose(1, 0, 2)):
            turning_2P = frequency_AP[-2:, frequency_AP.any(0)]
            angle = offsets[0][:, None, None] * turning_2P[0] + offsets[1][:, None] * turning_2P[1]
            places = np.array(list(itertools.product(*offsets)))
            frame = pd.DataFrame(places, columns=list(axes[-2:])).assign(cosine=np.cos(angle).mean(-1).ravel())
            frames.append(frame.assign(layers=layers, head=head if spectrum_AHP.shape[1] > 1 else "all heads"))
    if len(frames) > MAX_MAPS:
        return None
    cosines = pd.concat(frames, ignore_index=True)
    figure = maps_of_heads(cosines, "cosine", ("layers", "head"), axes, "mean cosine", signs_differ)
    here = f", and none on {' and '.join(axes[:-2])}," if len(axes) > 2 else ""
    high, wide = (size - 0.5 for size in trained.sizes[-2:])
    for panel in figure.axes[: len(frames)]:
        panel.add_patch(Rectangle((-wide, -high), 2 * wide, 2 * high, fill=False, linewidth=0.8))
    return Plot(
        name="rotary_cosines",
        title="Mean cosine of the rotary frequencies by offset",
        caption=f"Where it is above zero, a key at that offset{here} which resembles the query scores above others on "
        f"average, and below zero it scores below them. The grid is that {place}, and the middle the query's own cell; "
        "within the thin line are the offsets of training.",
        source=SOURCE,
        figure=figure,
    )

"""Maps of numbers by offset on two axes, whose middle is the query itself, and lines by offset on a third one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import Normalize, PowerNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from poslab.evaluation.attention.maps import MAX_WORDS, head_legend, head_style
from poslab.evaluation.attention.offsets import AttentionOnGrids
from poslab.report.figures import WIDTH, Plot, new_figure, panel_grid

Scale = tuple[str, Normalize]
"""Name of the colours, and the numbers that they stand for."""

MAX_PANELS_PER_ROW = 8
"""Maps in a row whose ticks can be read."""


def attention_offset_plots(grids: AttentionOnGrids) -> Iterator[Plot]:
    """Yield the maps of `attention_on_grids` over its last two axes, and lines over each axis before them.

    Nothing is drawn of a single axis, over which attention is a line against distance.
    """
    if len(grids.axes) < 2:
        return
    percent = grids.by_offset.assign(attention=100 * grids.by_offset["attention"])
    within = on_last_axes(percent, grids.axes)
    yield Plot(
        name="attention_by_offset",
        title="Attention by offset",
        caption=f"Each map is one head. Its middle is the query's own cell, and {_directions(grids.axes)}"
        f"{at_no_offset(grids.axes)}. A colour is the mean attention to such a key, over the queries that have one: "
        "the rim is a mean over few. Darker is more, on a scale of square roots.",
        figure=maps_of_heads(within, "attention", ("layer", "head"), grids.axes, "mean attention (%)", more_is_darker),
    )
    for axis in grids.axes[:-2]:
        if grids.by_offset[axis].any():  # a picture has one time
            yield _share_plot(grids, axis)


def _share_plot(grids: AttentionOnGrids, axis: str) -> Plot:
    """Draw the share of attention at each offset on one axis, all cells of the others together."""
    shares = share_on_axis(grids, axis)
    layers = sorted(shares["layer"].unique())
    labels = {"xlabel": f"{axis}: key less query", "ylabel": "share of attention (%)"}
    figure, panels = panel_grid(len(layers), min(2, len(layers)), WIDTH, 2.5, 1.0, True, True, **labels)
    for panel, layer in zip(panels.flat, layers, strict=False):
        for head, own in shares[shares["layer"] == layer].groupby("head"):
            panel.plot(own[axis], 100 * own["attention"], linewidth=1.2, label=str(head), **head_style(int(str(head))))
        panel.set_title(f"layer {layer}", fontsize="medium")
        panel.xaxis.set_major_locator(MaxNLocator(integer=True))
    head_legend(figure, panels[0, 0])
    return Plot(
        name=f"attention_by_{axis}",
        title=f"Attention by offset on {axis}",
        caption=f"Each line is one head: the share of a query's attention that goes to all cells at this offset on "
        f"{axis}, as a mean over the queries that have such cells; 0 is the query's own.",
        figure=figure,
    )


def share_on_axis(grids: AttentionOnGrids, axis: str) -> pd.DataFrame:
    """Return the share of attention at each offset on one axis, all cells of the other axes together.

    Returns:
        Columns `layer`, `head`, the axis, and `attention`, a mean over the queries that have cells at such an offset.
    """
    frame, keys = grids.by_offset, ["layer", "head", axis]
    weight = (frame["attention"] * frame["queries"]).groupby([frame[key] for key in keys]).sum()
    # Every query with a cell at this offset has one that differs on no other axis.
    straight = (frame[[other for other in grids.axes if other != axis]] == 0).all(axis=1)
    queries = frame[straight].set_index(keys)["queries"]
    return (weight / queries).rename("attention").reset_index()


def on_last_axes(frame: pd.DataFrame, axes: Sequence[str]) -> pd.DataFrame:
    """Return the rows of a frame that have no offset on any axis before the last two."""
    kept: pd.DataFrame = frame[(frame[list(axes[:-2])] == 0).all(axis=1)]
    return kept


def more_is_darker(most: float) -> Scale:
    """Return colours of numbers from 0 on: square roots make small ones visible beside large ones."""
    return "Blues", PowerNorm(0.5, 0, most)


def signs_differ(most: float) -> Scale:
    """Return colours of numbers of either sign: red above 0, blue below, white at it."""
    return "RdBu_r", Normalize(-most or -1, most or 1)


def maps_of_heads(
    frame: pd.DataFrame,
    value: str,
    by: tuple[str, str],
    axes: Sequence[str],
    quantity: str,
    scale: Callable[[float], Scale],
) -> Figure:
    """Return a figure with a map for each row and column of panels, under one scale of colours.

    Args:
        frame: has the columns `by`, those of the last two axes, and that of the value.
        value: name of its column.
        by: columns of the rows and columns of panels.
        axes: names of the axes.
        quantity: label of the colours.
        scale: `more_is_darker` or `signs_differ`.
    """
    rows, columns = (list(dict.fromkeys(frame[name])) for name in by)
    colours, norm = scale(float(frame[value].abs().max()))
    sides = np.ptp(frame[list(axes[-2:])].to_numpy(), axis=0) + 1
    panel = (WIDTH - 0.9) / len(columns)
    figure = new_figure(WIDTH, 1.3 + len(rows) * (0.1 + panel * min(1.6, sides[0] / sides[1])))
    panels = figure.subplots(len(rows), len(columns), squeeze=False)
    words = by if len(columns) <= MAX_WORDS else ("", "")
    image = None
    for (row, column), own in np.ndenumerate(panels):
        of_panel = frame[(frame[by[0]] == rows[row]) & (frame[by[1]] == columns[column])]
        if not len(of_panel):  # a pattern of encodings, of which one has a map for all heads
            own.set_axis_off()
            continue
        image = draw_map(own, of_panel, value, axes[-2:], colours, norm)
        if row < len(rows) - 1 or len(columns) > MAX_PANELS_PER_ROW:
            own.set_xticklabels([])
        if column or len(columns) > MAX_PANELS_PER_ROW:
            own.set_yticklabels([])
        if row == 0:
            own.set_title(_name(words[1], columns[column]), fontsize="small")
        if column == 0 and len(rows) > 1:
            own.set_ylabel(_name(words[0], rows[row]), fontsize="small")
    down, right = axes[-2:]
    figure.supylabel(f"{down}: key less query (cells)", fontsize="small")
    colour_bar(figure, image, panels, f"{right}: key less query (cells)", quantity)
    return figure


def colour_bar(figure: Figure, image: Any, panels: np.ndarray, xlabel: str, quantity: str) -> None:
    """Add the colours of an image below panels, under the label of their x axes."""
    bar = figure.colorbar(image, ax=panels, location="bottom", shrink=0.7, aspect=30)
    bar.ax.xaxis.set_major_locator(MaxNLocator(4))
    bar.ax.tick_params(labelsize="small")
    bar.set_label(quantity, fontsize="small")
    bar.ax.set_title(xlabel, fontsize="small")


def draw_map(panel: Axes, frame: pd.DataFrame, value: str, axes: Sequence[str], colours: str, norm: Normalize) -> Any:
    """Draw a column by the offset on two axes, with the cell of the query marked; offsets without a row stay empty."""
    table = frame.pivot(index=axes[0], columns=axes[1], values=value)
    (top, bottom), (left, right) = ((int(own.min()), int(own.max())) for own in (table.index, table.columns))
    table = table.reindex(index=range(top, bottom + 1), columns=range(left, right + 1))
    extent = (left - 0.5, right + 0.5, bottom + 0.5, top - 0.5)
    image = panel.imshow(table, cmap=colours, norm=norm, extent=extent, interpolation="nearest")
    is_dark = np.mean(image.cmap(norm(float(table.to_numpy()[-top, -left])))[:3]) < 0.5
    edge = "white" if is_dark else "black"
    panel.plot(0, 0, marker="s", markersize=3, markerfacecolor="none", markeredgecolor=edge, markeredgewidth=0.8)
    panel.set(xticks=sorted({left, 0, right}), yticks=sorted({top, 0, bottom}))
    panel.tick_params(length=1.5, pad=1, labelsize="small")
    return image


def _name(word: str, value: object) -> str:
    """Return the name of a row or column of panels: `head 3`, or `layers 0, 1`, which is in words already."""
    return value if isinstance(value, str) else f"{word} {value}".strip()


def _directions(axes: Sequence[str]) -> str:
    down, right = axes[-2:]
    return f"{down} grows downwards, {right} to the right, in cells"


def at_no_offset(axes: Sequence[str]) -> str:
    """Return the words that stand for the axes before the last two; nothing if there is none."""
    return f", at no offset on {' and '.join(axes[:-2])}" if len(axes) > 2 else ""

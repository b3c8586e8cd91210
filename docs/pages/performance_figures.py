"""The plots of docs/performance.md, which `python docs/make.py performance` draws."""

from __future__ import annotations

import math
from typing import Any

from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator

from pages.performance_bounds import NOTHING, OURS, Row

MASK = "SDPA with a mask"
COLUMNS = 5
ROUTE_COLOURS = {"flash": "tab:blue", "distance": "tab:green", "blockwise": "tab:red"}
ROUTE_MARKS = {"flash": "o", "distance": "s", "blockwise": "^"}
X_TRANSFORMERS, TRANSFORMERS = "x-transformers", "transformers, as named"
PEER_COLOURS = {X_TRANSFORMERS: "tab:orange", TRANSFORMERS: "tab:purple"}
PEER_MARKS = {X_TRANSFORMERS: "x", TRANSFORMERS: "+"}
GREY = "0.6"


def draw(rows: list[Row], figure: str, label: str) -> Figure:
    """Draw a panel for each encoding: a ratio over T, of Poslab by its route, of a mask and of peers.

    Args:
        rows: of one precision.
        figure: `time` or `memory`.
        label: of the whole plot.
    """
    encodings = list(dict.fromkeys(row["encoding"] for row in rows))
    num_rows = math.ceil(len(encodings) / COLUMNS)
    picture, panels = pyplot.subplots(
        num_rows, COLUMNS, figsize=(10, 0.9 + 1.65 * num_rows), sharex=True, sharey=True, squeeze=False, dpi=110
    )
    mask = [row for row in rows if row["contestant"] == MASK]
    for panel, encoding in zip(panels.flat, encodings, strict=False):
        _draw_encoding(panel, encoding, [row for row in rows if row["encoding"] == encoding], mask, figure)
    for panel in panels.flat[len(encodings) :]:
        panel.set_axis_off()
    lengths = sorted({row["length"] for row in rows})
    for place, panel in enumerate(panels.flat[: len(encodings)]):
        panel.set_xscale("log", base=2)
        panel.set_yscale("log")
        panel.set_xticks(lengths, [f"{length / 1024:g}k" for length in lengths], fontsize=7)
        panel.xaxis.set_minor_locator(NullLocator())
        panel.yaxis.set_minor_locator(NullLocator())
        panel.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        panel.tick_params("both", labelsize=7)
        panel.spines[["top", "right"]].set_visible(False)
        # Also where the panel below is empty.
        panel.tick_params("x", labelbottom=place + COLUMNS >= len(encodings))
    lowest, highest = _extent(rows, figure)
    ticks = [tick for tick in (0.25, 0.5, 1, 2, 4, 8, 16, 32, 64, 128, 256) if lowest / 2 < tick < 2 * highest]
    panels.flat[0].set_yticks(ticks)
    panels.flat[0].set_ylim(0.8 * lowest, 1.25 * highest)
    # What not every panel has comes from whichever has it.
    handles = {
        line.get_label(): line for panel in panels.flat for line in panel.get_lines() if line.get_label()[0] != "_"
    }
    order = [*(f"ours, {route}" for route in ROUTE_COLOURS), MASK, *PEER_COLOURS]
    handles = {name: handles[name] for name in order if name in handles}
    picture.legend(handles.values(), handles.keys(), loc="upper center", ncols=len(handles), fontsize=8, frameon=False)
    picture.supxlabel("T, tokens", fontsize=9)
    picture.supylabel(label, fontsize=9)
    picture.tight_layout(rect=(0, 0, 1, 1 - 0.3 / picture.get_figheight()))
    return picture


def _draw_encoding(panel: Axes, encoding: str, rows: list[Row], mask: list[Row], figure: str) -> None:
    panel.axhline(1, color="black", linewidth=0.6)
    _line(panel, mask, figure, color=GREY, linestyle="--", linewidth=1, label=MASK)
    named: list[str] = []
    for contestant in dict.fromkeys(row["contestant"] for row in rows):
        own = [row for row in rows if row["contestant"] == contestant]
        if contestant == OURS:
            route = own[0]["route"][0]
            colour, mark = ROUTE_COLOURS[route], ROUTE_MARKS[route]
            _line(panel, own, figure, color=colour, marker=mark, markersize=3.5, label=f"ours, {route}", zorder=3)
        elif contestant not in (NOTHING, MASK):
            peer = X_TRANSFORMERS if contestant == X_TRANSFORMERS else TRANSFORMERS
            colour, mark = PEER_COLOURS[peer], PEER_MARKS[peer]
            style = "-" if peer == X_TRANSFORMERS or not named else ":"
            _line(
                panel, own, figure, color=colour, linestyle=style, marker=mark, markersize=4, linewidth=1.2, label=peer
            )
            if peer == TRANSFORMERS:
                named.append(f"{contestant} (dotted)" if named else contestant)
    panel.text(
        0.04,
        0.96,
        "\n".join(named),
        va="top",
        fontsize=6.5,
        color=PEER_COLOURS[TRANSFORMERS],
        transform=panel.transAxes,
    )
    panel.set_title(encoding, fontsize=8, pad=3)


def _line(panel: Axes, rows: list[Row], figure: str, **style: Any) -> None:
    points = sorted((row["length"], _median(row[figure])) for row in rows if figure in row)
    if points:
        panel.plot(*zip(*points, strict=True), **style)


def _extent(rows: list[Row], figure: str) -> tuple[float, float]:
    values = [_median(row[figure]) for row in rows if figure in row]
    return min([1.0, *values]), max([1.0, *values])


def _median(value: float | list[float]) -> float:
    return value[1] if isinstance(value, list) else value

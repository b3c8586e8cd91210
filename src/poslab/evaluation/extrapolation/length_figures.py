"""Figures of metrics by length, for one model or several side by side, whatever their task.

Their tables have the columns `metric` (or another kind of panel), `model`, `length`, `value`, `low`, `high` and
`items`; the length is 0 for all lengths together.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullLocator

from poslab.configuration.labels import written
from poslab.report.figures import WIDTH, Table, legend_columns, panel_grid, style, widen

ALL = 0
"""The length that stands for all lengths together."""

MIN_RATIO = 1.5
"""Least ratio of successive lengths that are drawn on a logarithmic axis, each with its number."""


def lines_by_length(
    rows: pd.DataFrame,
    training_lengths: Mapping[str, int],
    *,
    by: str,
    titles: Mapping[str, str],
    xlabel: str,
    ylabel: str = "",
    least: Mapping[str, float],
    sharey: bool = False,
    multiples_of: int | None = None,
) -> Figure:
    """Return a picture with a panel for each metric, and in it a line with its interval for each model.

    Args:
        rows: a table of metrics by length.
        training_lengths: longest length of training, by model; a dotted line.
        by: column of the panels.
        titles: title of each panel, by its name.
        xlabel, ylabel: of the axes.
        least: least span of the axis of each panel, so that noise does not look like a steep gain.
        sharey: whether panels have one axis.
        multiples_of: as of `length_name`, for the ticks.
    """
    rows = rows[rows["length"] != ALL].sort_values("length", kind="stable")
    lengths = sorted(set(rows["length"]))
    figure, panels = panel_grid(len(titles), 1, WIDTH, 2.6, 0.8, sharex=True, sharey=sharey, xlabel=xlabel)
    for panel, (name, title) in zip(panels.flat, titles.items(), strict=False):
        _length_axis(panel, lengths, multiples_of)
        for training_length in sorted(set(training_lengths.values())):
            panel.axvline(training_length, color="0.6", linestyle=":")
        own = rows[rows[by] == name]
        for place, (model, line) in enumerate(own.groupby("model", sort=False)):
            panel.plot(line["length"], line["value"], markersize=3.5, label=written(str(model)), **style(place))
            colour = style(place)["color"]
            panel.fill_between(line["length"], line["low"], line["high"], color=colour, alpha=0.15, linewidth=0)
        panel.set_title(title, fontsize="medium")
    for panel, name in zip(panels.flat, titles, strict=False):  # once all is drawn: panels may share their axis
        widen(panel, least[name])
    for panel in panels[:, 0]:
        panel.set_ylabel(ylabel)
    lines, labels = panels[0, 0].get_legend_handles_labels()
    figure.legend(lines, labels, loc="outside lower center", ncols=legend_columns(labels, WIDTH), frameon=False)
    return figure


def _length_axis(panel: Axes, lengths: Sequence[int], multiples_of: int | None) -> None:
    if all(second >= MIN_RATIO * first for first, second in itertools.pairwise(lengths)):
        panel.set_xscale("log", base=2)
        panel.set_xticks(lengths, [length_name(length, multiples_of) for length in lengths], rotation=45, ha="right")
        panel.xaxis.set_minor_locator(NullLocator())
    else:
        panel.xaxis.set_major_locator(MaxNLocator(integer=True))


def overview(rows: pd.DataFrame, by: str, decimals: Mapping[str, int], multiples_of: int | None = None) -> pd.DataFrame:
    """Return a row for each panel and model, and a column for each length, with values as text.

    A table of one panel leaves out its column.

    Args:
        rows: a table of metrics by length.
        by: column of the panels.
        decimals: number of decimals, by panel in order.
        multiples_of: as of `length_name`, for the columns.
    """
    lengths = sorted(set(rows["length"]))
    values = rows.set_index([by, "model", "length"])["value"]
    lines = []
    for panel, model in itertools.product(decimals, dict.fromkeys(rows["model"])):
        line = {by: panel.replace("_", " "), "model": model}
        for length in sorted(lengths, key=lambda length: (length == ALL, length)):
            value = values.get((panel, model, length), np.nan)
            line[length_name(length, multiples_of)] = (
                None if np.isnan(value) else f"{value:,.{decimals[panel]}f}".replace("-", "−")
            )
        lines.append(line)
    frame = pd.DataFrame(lines)
    return frame.drop(columns=by) if frame[by].nunique() == 1 else frame


def length_name(length: int, multiples_of: int | None = None) -> str:
    """Return a length as the name of a column, and if asked as a multiple of that of training: `112 (4x)`."""
    if length == ALL:
        return "all"
    return f"{length:,}" if multiples_of is None else f"{length:,} ({length / multiples_of:.2g}x)"


def overview_table(
    rows: pd.DataFrame, by: str, decimals: Mapping[str, int], caption: str, multiples_of: int | None = None
) -> Table:
    """Return the table that a report begins with; arguments as of `overview`."""
    return Table("overview", "At a glance", caption, overview(rows, by, decimals, multiples_of))

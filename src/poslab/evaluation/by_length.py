"""Metrics by length, for one model or several side by side: plots, an overview, and the items of tasks without a text.

Tables have the columns `metric` (or another kind of panel), `model`, `length`, `value`, `low`, `high` and `items`; the
length is 0 for all lengths together.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullLocator

from poslab.configuration.labels import written
from poslab.evaluation.scores.intervals import MIN_ITEMS, interval
from poslab.evaluation.scores.items import MeasuredRun
from poslab.report.figures import WIDTH, Plot, ReportFigure, Table, legend_columns, panel_grid, style, widen
from poslab.report.text import fixed

ALL = 0  # the length of all lengths together

MIN_RATIO = 1.5  # least ratio of successive lengths that are drawn on a logarithmic axis, each with its number

MIN_SHARE, MIN_LOSS = 5.0, 0.05
"""Least spans of the axes of shares and losses, so that noise does not look like a steep gain."""


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
    """Draw a panel for each metric, and in it a line with its interval for each model.

    Args:
        rows: a table of metrics by length, whose column `by` has the panels.
        training_lengths: longest training length, by model; a dotted line.
        titles: title of each panel, by its name.
        least: least span of the axis of each panel, so that noise does not look like a steep gain.
        multiples_of: as of `length_name`, for the ticks.
    """
    rows = rows[rows["length"] != ALL].sort_values("length", kind="stable")
    lengths = sorted(set(rows["length"]))
    figure, panels = panel_grid(len(titles), 1, WIDTH, 2.6, 0.8, sharex=True, sharey=sharey, xlabel=xlabel)
    for panel, (name, title) in zip(panels.flat, titles.items(), strict=False):
        if all(second >= MIN_RATIO * first for first, second in itertools.pairwise(lengths)):
            names = [length_name(length, multiples_of) for length in lengths]
            panel.set_xscale("log", base=2)
            panel.set_xticks(lengths, names, rotation=45, ha="right")
            panel.xaxis.set_minor_locator(NullLocator())
        else:
            panel.xaxis.set_major_locator(MaxNLocator(integer=True))
        for training_length in sorted(set(training_lengths.values())):
            panel.axvline(training_length, color="0.6", linestyle=":")
        for number, (model, line) in enumerate(rows[rows[by] == name].groupby("model", sort=False)):
            panel.plot(line["length"], line["value"], markersize=3.5, label=written(str(model)), **style(number))
            colour = style(number)["color"]
            panel.fill_between(line["length"], line["low"], line["high"], color=colour, alpha=0.15, linewidth=0)
        panel.set_title(title, fontsize="medium")
    for panel, name in zip(panels.flat, titles, strict=False):  # once all is drawn: panels may share their axis
        widen(panel, least[name])
    for panel in panels[:, 0]:
        panel.set_ylabel(ylabel)
    lines, labels = panels[0, 0].get_legend_handles_labels()
    figure.legend(lines, labels, loc="outside lower center", ncols=legend_columns(labels, WIDTH), frameon=False)
    return figure


def length_name(length: int, multiples_of: int | None = None) -> str:
    """Return a length as the name of a column, perhaps as a multiple of the training length: `112 (4x)`."""
    if length == ALL:
        return "all"
    return f"{length:,}" if multiples_of is None else f"{length:,} ({length / multiples_of:.2g}x)"


def overview_table(
    rows: pd.DataFrame, decimals: Mapping[str, int], caption: str, multiples_of: int | None = None
) -> Table:
    """Return the table that a report starts with: a row for each metric and model, a column for each length, as text.

    A table of one metric leaves out its column. The number of decimals is by metric, in order; `multiples_of` is as of
    `length_name`, for the columns.
    """
    lengths = sorted(set(rows["length"]), key=lambda length: (length == ALL, length))
    values = rows.set_index(["metric", "model", "length"])["value"]
    lines = []
    for metric, model in itertools.product(decimals, dict.fromkeys(rows["model"])):
        line = {"metric": metric.replace("_", " "), "model": model}
        for length in lengths:
            value = values.get((metric, model, length), np.nan)
            line[length_name(length, multiples_of)] = None if np.isnan(value) else fixed(value, decimals[metric])
        lines.append(line)
    frame = pd.DataFrame(lines)
    frame = frame.drop(columns="metric") if frame["metric"].nunique() == 1 else frame
    return Table("overview", "At a glance", caption, frame)


def metrics_by_length(measured: Mapping[str, MeasuredRun], open_ended: Collection[str], seed: int) -> pd.DataFrame:
    """Return every metric at every length, with its 95% interval over items and their number.

    `open_ended` are metrics that are no shares, and the seed is of the bootstrap. Low and high are NaN for a metric of
    the whole corpus, such as BLEU, and with fewer than 5 items.
    """
    rows = []
    for model, run in measured.items():
        numbers = {length: int((scores.counts > 0).sum()) for (_, length), scores in run.scores.items()}
        for (metric, length), scores in run.scores.items():
            low, high = interval(scores, metric not in open_ended, seed)
            rows.append((metric, model, length or ALL, scores.value, low, high, numbers[length]))
        for (metric, length), value in run.values.items():
            rows.append((metric, model, length or ALL, value, np.nan, np.nan, numbers.get(length, 0)))
    return pd.DataFrame(rows, columns=["metric", "model", "length", "value", "low", "high", "items"])


def metrics_figures(
    rows: pd.DataFrame,
    shown: Sequence[str],
    open_ended: Collection[str],
    training_lengths: Mapping[str, int],
    length_means: str,
    multiples_of: int | None = None,
) -> list[ReportFigure]:
    """Return the table of `metrics_by_length` and, of those `shown` that differ at several lengths, a plot.

    `open_ended` are metrics that are no shares, and `length_means` is what a length is; `multiples_of` is as of
    `length_name`, for the plot.
    """
    figures: list[ReportFigure] = []
    of_lengths = rows[rows["length"] != ALL]
    shares = ~of_lengths["metric"].isin(open_ended)
    rounded = of_lengths["value"].round(3).mask(shares, of_lengths["value"].round(1))
    values = rounded.groupby(of_lengths["metric"]).nunique()
    drawn = [metric for metric in shown if values.get(metric, 0) > 1]  # a constant says nothing
    if drawn and of_lengths["length"].nunique() > 1:
        figure = lines_by_length(
            rows,
            training_lengths,
            by="metric",
            titles={metric: metric.replace("_", " ") for metric in drawn},
            xlabel=length_means,
            least={metric: MIN_LOSS if metric in open_ended else MIN_SHARE for metric in drawn},
            multiples_of=multiples_of,
        )
        caption = (
            "Of a loss less is better; anything else is from 0 to 100, and more is better. The dotted line is the "
            "longest training length. Shaded: 95% interval over items; metrics of the whole test have none."
        )
        figures.append(Plot("metrics_by_length", "Metrics by length", caption, figure))
    names = [*shown, *sorted(set(rows["metric"]) - set(shown))]
    last = rows["length"].max() + 1
    ordered = rows.assign(order=rows["metric"].map(names.index), later=rows["length"].replace(ALL, last))
    ordered = ordered.sort_values(["order", "later"], kind="stable")
    table = Table(
        "per_length",
        "Every metric at every length",
        "Low and high are a 95% interval over items, another test of as many: Wilson's or Student's for shares, the "
        "studentised bootstrap for losses. It says nothing of other seeds. Dashes: a metric of the whole test, or "
        f"fewer than {MIN_ITEMS} items.",
        ordered.assign(
            metric=ordered["metric"].str.replace("_", " "), length=[length_name(length) for length in ordered["length"]]
        )[["metric", "length", "model", "value", "low", "high", "items"]],
        decimals={"value": 3, "low": 3, "high": 3},
    )
    return [*figures, table]

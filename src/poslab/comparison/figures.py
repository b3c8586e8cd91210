"""Figures of a comparison: curves over length, differences, every seed, costs, and tuning."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import NullLocator

from poslab.comparison.cells import TunedPoint
from poslab.comparison.comparison import Criterion, Tuning
from poslab.report.figures import COLOURS, Picture, legend_columns, new_figure

MARKERS = ("o", "s", "^", "D", "v", "P", "X")

WORD_COLOURS = {
    "better": COLOURS[2],
    "worse": COLOURS[1],
    "equal": COLOURS[0],
    "not told apart": "0.45",
    "not learned": "0.75",
}
"""Colour of each verdict; figures also name it, for readers who do not see colours."""

Styles = Mapping[str, Mapping[str, Any]]
"""Colour and marker of each encoding, the same in all figures."""


def styles_of(encodings: Sequence[str]) -> Styles:
    """Return a style for each encoding: seven colours, and another marker and line for each further seven."""
    kinds = itertools.product(("-", "--", ":"), range(len(COLOURS)))
    return {
        name: {
            "color": COLOURS[place],
            "linestyle": line,
            "marker": MARKERS[(place + 2 * "-- :".index(line[0])) % len(MARKERS)],
        }
        for name, (line, place) in zip(encodings, itertools.cycle(kinds), strict=False)
    }


def curves(name: str, title: str, rows: pd.DataFrame, trained: int, styles: Styles, better: str) -> Picture:
    """Draw a metric over the length of the test.

    Args:
        name, title: of the picture.
        rows: a row for each encoding, seed and length, with columns `encoding`, `length` and `value`.
        trained: longest length of training.
        styles: of the encodings.
        better: `lower` or `higher`.
    """
    figure = new_figure(8.0, 4.6)
    axes = figure.subplots()
    lengths = sorted(set(rows["length"]))
    axes.set_xscale("log", base=2)
    axes.set_xticks(lengths, [f"{length:,}" for length in lengths], rotation=45 if len(lengths) > 8 else 0)
    axes.xaxis.set_minor_locator(NullLocator())
    axes.axvline(trained, color="0.6", linestyle=":")
    for encoding, own in rows.groupby("encoding", sort=False):
        by_length = own.groupby("length")["value"]
        style = styles[str(encoding)]
        axes.plot(by_length.mean(), label=str(encoding), markersize=3.5, linewidth=1.3, **style)
        axes.fill_between(
            sorted(own["length"].unique()),
            by_length.min(),
            by_length.max(),
            color=style["color"],
            alpha=0.12,
            linewidth=0,
        )
    axes.set_xlabel("length of the test")
    axes.set_ylabel(str(rows["metric"].iloc[0]).replace("_", " "))
    _legend(figure, axes)
    return Picture(
        name,
        title,
        f"The mean over seeds; the band reaches from the worst seed to the best. {better.capitalize()} is better, and "
        "the dotted line is the longest length of training.",
        figure,
    )


def differences(name: str, criterion: Criterion, rows: pd.DataFrame, baseline: str) -> Picture:
    """Draw the difference of each encoding to the baseline, with its interval and its verdict.

    Rows have columns `encoding`, `difference`, `low`, `high` and `word`.
    """
    figure = new_figure(7.5, 0.9 + 0.36 * len(rows))
    axes = figure.subplots()
    places = np.arange(len(rows))[::-1]
    axes.axvline(0, color="0.3", linewidth=1)
    if criterion.margin is not None:
        axes.axvspan(-criterion.margin, criterion.margin, color="0.9", linewidth=0)
    for place, row in zip(places, rows.to_dict("records"), strict=True):
        colour = next((c for word, c in WORD_COLOURS.items() if str(row["word"]).startswith(word)), "0.45")
        axes.plot([row["low"], row["high"]], [place, place], color=colour, linewidth=2)
        axes.plot(row["difference"], place, "o", color=colour)
        axes.annotate(
            str(row["word"]), (1.01, place), xycoords=("axes fraction", "data"), va="center", fontsize=8, color=colour
        )
    axes.set_yticks(places, list(rows["encoding"]))
    axes.set_ylim(-0.6, len(rows) - 0.4)
    axes.set_xlabel(f"{criterion.metric} minus that of {baseline}")
    side = "left" if criterion.direction == "minimize" else "right"
    margin = "" if criterion.margin is None else " Within the grey band a difference does not matter."
    return Picture(
        name,
        f"Differences to {baseline}: {criterion.metric}",
        f"Runs of the same seed are pairs: the dot is their mean difference, the line its 95 % interval. "
        f"Better is to the {side}.{margin}",
        figure,
    )


def every_seed(name: str, criterion: Criterion, rows: pd.DataFrame, styles: Styles) -> Picture:
    """Draw the value of every seed; rows have columns `encoding`, `seed` and `value`."""
    encodings = list(dict.fromkeys(rows["encoding"]))
    figure = new_figure(7.5, 0.9 + 0.36 * len(encodings))
    axes = figure.subplots()
    for place, encoding in enumerate(reversed(encodings)):
        values = rows[rows["encoding"] == encoding]["value"].to_numpy(dtype=float)
        style = styles[encoding]
        axes.plot(values, np.full(len(values), place), style["marker"], color=style["color"], alpha=0.7, markersize=5)
        if np.isfinite(values).any():
            axes.plot(np.nanmean(values), place, "|", color="black", markersize=16)
    axes.set_yticks(range(len(encodings)), encodings[::-1])
    axes.set_xlabel(criterion.metric)
    return Picture(
        name,
        f"Every seed: {criterion.metric}",
        "A mark is a run, the black line the mean of its encoding. Where the marks of an encoding stand in two groups, "
        "some seeds have solved the task and others have not, and the mean describes none of them.",
        figure,
    )


def pareto(name: str, criterion: Criterion, rows: pd.DataFrame, cost: str, styles: Styles) -> Picture:
    """Draw a metric against a cost; rows have columns `encoding`, `value`, `cost` and `on_front`."""
    figure = new_figure(7.0, 4.2)
    axes = figure.subplots()
    front = rows[rows["on_front"]].sort_values("cost")
    axes.plot(front["cost"], front["value"], color="0.8", linewidth=1, zorder=0)
    for row in rows.to_dict("records"):
        style = styles[row["encoding"]]
        axes.plot(row["cost"], row["value"], style["marker"], color=style["color"], markersize=6)
        axes.annotate(
            row["encoding"], (row["cost"], row["value"]), textcoords="offset points", xytext=(5, 4), fontsize=8
        )
    axes.set_xlabel(cost.replace("_", " "))
    axes.set_ylabel(criterion.metric)
    axes.margins(x=0.15)
    return Picture(
        name,
        f"{criterion.metric} against {cost.replace('_', ' ')}",
        "An encoding on the grey line is one that no other beats in both.",
        figure,
    )


def tuning(
    name: str, case: str, key: str, tuned: Mapping[str, TunedPoint], settings: Tuning, styles: Styles
) -> Picture:
    """Draw the validation metric over the values of a tuned key, for each encoding."""
    figure = new_figure(7.5, 4.2)
    axes = figure.subplots()
    for encoding, choice in tuned.items():
        best = choice.point
        line = sorted(
            (point[key], value)
            for point, value in choice.trials
            if all(point[other] == best[other] for other in best if other != key) and np.isfinite(value)
        )
        axes.plot(*zip(*line, strict=True), label=encoding, markersize=4, linewidth=1.2, **styles[encoding])
    axes.set_xscale("log")
    axes.set_xlabel(key)
    axes.set_ylabel(f"validation/{settings.metric}")
    _legend(figure, axes)
    better = "Lower" if settings.direction == "minimize" else "Higher"
    return Picture(
        name,
        f"Tuning of {key}: {case}",
        f"Each mark is a run of a seed that is not compared, at the trained length; the best value of an encoding is "
        f"that of all its seeds. {better} is better.",
        figure,
    )


def _legend(figure: Any, axes: Axes) -> None:
    handles, labels = axes.get_legend_handles_labels()
    columns = legend_columns(labels, figure.get_size_inches()[0])
    figure.legend(handles, labels, loc="outside lower center", ncols=columns, frameon=False, fontsize=8)

"""Figures of a comparison: curves over length, differences, every seed, and performance profiles."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import NullLocator

from poslab.configuration.labels import written
from poslab.experiments.criteria import Criterion, Direction, better
from poslab.experiments.metrics import in_words
from poslab.experiments.statistics.over_cases import Summary
from poslab.report.figures import COLOURS, WIDTH, Plot, Style, legend_columns, new_figure, style, without_marker

WORD_COLOURS = {
    "better": COLOURS[2],
    "worse": COLOURS[1],
    "equivalent": COLOURS[0],
    "inconclusive": "0.45",
    "did not learn the task": "0.6",
}
"""Colour of each verdict; figures also name it, for readers who do not see colours."""

MAX_LINEAR_TICKS = 30  # ratio of the largest to the smallest value above which an axis is logarithmic

Styles = Mapping[str, Style]
"""Style of each encoding: the same in all figures, except those that name only some of many encodings."""

MAX_NAMED = 12  # most curves of a figure that a reader can distinguish
ROWS_OF_LEGEND = 5  # rows of a legend that a figure has room for unchanged


def styles_of(encodings: Sequence[str]) -> Styles:
    return {name: style(index) for index, name in enumerate(encodings)}


def named_styles(styles: Styles, rows: pd.DataFrame, always: Sequence[str], direction: Direction) -> Styles:
    """Return the styles of the encodings whose curves have a name: of more than 12, `always` and the best.

    The best have the best values at the longest length; other arguments are as of `curves`.
    """
    if rows["encoding"].nunique() <= MAX_NAMED:
        return styles
    finite = rows[np.isfinite(rows["value"])]
    at_longest = finite[finite["length"] == finite["length"].max()].groupby("encoding", sort=False)["value"].mean()
    best = at_longest.sort_values(ascending=direction == "minimize", kind="stable")
    return styles_of(list(dict.fromkeys([*always, *best.index]))[:MAX_NAMED])


def curves(
    name: str, title: str, rows: pd.DataFrame, length_of: str, trained: int | None, styles: Styles, direction: Direction
) -> Plot:
    """Draw a metric over the length of the test.

    Args:
        rows: a row for each encoding, seed and length, with columns `encoding`, `length`, `value` and `metric`, the
            same in all.
        length_of: what has the length, such as `a side in pixels`.
        trained: longest training length; None without training.
        styles: of the encodings; encodings without one are pale.
        direction: of the better values.
    """
    figure = new_figure(WIDTH, 4.2)
    axes = figure.subplots()
    lengths = sorted(set(rows["length"]))
    axes.set_xscale("log", base=2)
    axes.set_xticks(lengths, [f"{length:,}" for length in lengths], rotation=45 if len(lengths) > 8 else 0)
    axes.xaxis.set_minor_locator(NullLocator())
    if trained is not None:
        axes.axvline(trained, color="0.6", linestyle=":")
    finite = rows[np.isfinite(rows["value"])]
    for encoding, group in finite.groupby("encoding", sort=False):
        by_length = group.groupby("length")["value"].agg(["mean", "min", "max"])
        middle = by_length["mean"]
        if (line := styles.get(str(encoding))) is None:
            axes.plot(middle, color="0.85", linewidth=0.8, zorder=0)
            continue
        axes.plot(middle, label=written(str(encoding)), markersize=3.5, linewidth=1.3, **line)
        axes.fill_between(middle.index, by_length["min"], by_length["max"], color=line["color"], alpha=0.12, lw=0)
    if finite["value"].min() > 0 and finite["value"].max() > MAX_LINEAR_TICKS * finite["value"].min():
        axes.set_yscale("log")
    axes.set_xlabel(f"length of {length_of}")
    axes.set_ylabel(str(rows["metric"].iloc[0]).replace("_", " "))
    _legend(figure, axes)
    caption = (
        "The mean over seeds; the band reaches from the worst seed to the best. "
        f"{better(direction).capitalize()} is better"
        f"{'' if trained is None else ', and the dotted line is the longest training length'}."
    )
    if set(rows["encoding"]) - styles.keys():
        caption += " Named are the baseline, none where it is compared, and the best at the longest length; all others "
        caption += "are pale."
    return Plot(name, title, caption, figure)


def differences(name: str, criterion: Criterion, rows: pd.DataFrame, baseline: str) -> Plot:
    """Draw the difference of each encoding to the baseline, with its interval and its verdict.

    Rows have columns `encoding`, `difference`, `low`, `high` and `verdict`.
    """
    figure = new_figure(WIDTH, 1.2 + 0.34 * len(rows))
    axes = figure.subplots()
    ys = np.arange(len(rows))[::-1]
    axes.axvline(0, color="0.3", linewidth=1)
    if criterion.margin is not None:
        axes.axvspan(-criterion.margin, criterion.margin, color="0.9", linewidth=0)
    labels = []
    for y, row in zip(ys, rows.to_dict("records"), strict=True):
        colour = next((c for word, c in WORD_COLOURS.items() if str(row["verdict"]).startswith(word)), "0.45")
        axes.plot([row["low"], row["high"]], [y, y], color=colour, linewidth=2)
        axes.plot(row["difference"], y, "o", color=colour)
        labels.append((f"{written(row['encoding'])}:\n{row['verdict']}", colour))
    axes.set_yticks(ys, [label for label, _ in labels], fontsize=9)
    for tick, (_, colour) in zip(axes.get_yticklabels(), labels, strict=True):
        tick.set_color(colour)
    axes.set_ylim(-0.6, len(rows) - 0.4)
    is_less, metric = criterion.direction == "minimize", in_words(criterion)
    arrow = f"← {'better' if is_less else 'worse'} than {baseline}      {'worse' if is_less else 'better'} →"
    figure.supxlabel(f"{metric}: difference to {baseline}\n{arrow}", fontsize=9)
    margin = "" if criterion.margin is None else " Within the grey band a difference does not matter."
    return Plot(
        name,
        f"Differences to {baseline}: {criterion.metric}",
        f"The value of an encoding minus the value of {baseline}: the dot is the mean difference, the line its 95% "
        f"interval.{margin}",
        figure,
    )


def every_seed(name: str, criterion: Criterion, rows: pd.DataFrame, styles: Styles) -> Plot:
    """Draw the value of every seed; rows have columns `encoding` and `value`, which is not finite if a run diverged."""
    encodings = list(dict.fromkeys(rows["encoding"]))
    figure = new_figure(WIDTH, 1.1 + 0.36 * len(encodings))
    axes = figure.subplots()
    labels = []
    for y, encoding in enumerate(reversed(encodings)):
        values = rows[rows["encoding"] == encoding]["value"].to_numpy(dtype=float)
        known, line = values[np.isfinite(values)], styles[encoding]
        axes.plot(known, np.full(len(known), y), line["marker"], color=line["color"], alpha=0.7, markersize=5)
        if len(known):
            axes.plot(known.mean(), y, "|", color="black", markersize=16)
        lost = len(values) - len(known)
        labels.append(f"{written(encoding)}{f' ({lost} of {len(values)} diverged)' if lost else ''}")
    axes.set_yticks(range(len(encodings)), labels)
    axes.set_ylim(-0.6, len(encodings) - 0.4)
    figure.supxlabel(f"{in_words(criterion)} ({better(criterion.direction)} is better)", fontsize=9)
    return Plot(
        name,
        f"Every seed: {criterion.metric}",
        "A mark is a run, the black line the mean of its encoding. Where the marks of an encoding form two groups, "
        "some seeds have solved the task and others have not, and the mean describes none of them.",
        figure,
    )


def profile(name: str, thresholds: np.ndarray, shares: Mapping[str, Summary], styles: Styles) -> Plot:
    """Draw the share of runs above each threshold of the score, for each encoding, with its interval."""
    figure = new_figure(WIDTH, 4.2)
    axes = figure.subplots()
    for encoding, share in shares.items():
        line = without_marker(styles[encoding])
        axes.plot(thresholds, share.value, label=written(encoding), linewidth=1.4, **line)
        axes.fill_between(thresholds, share.low, share.high, color=line["color"], alpha=0.12, linewidth=0)
    axes.set_xlabel("score: 0 is the worst encoding of a case, 1 the best")
    axes.set_ylabel("share of runs above the score")
    _legend(figure, axes)
    return Plot(
        name,
        "Performance profile",
        "The share of an encoding's runs, over all cases and seeds, whose score is above a threshold, with 95% "
        "intervals over seeds. An encoding whose curve lies above another's is the better one at every threshold.",
        figure,
        source="Agarwal et al., Deep RL at the Edge of the Statistical Precipice (2021), section 4.2",
    )


def _legend(figure: Any, axes: Axes) -> None:
    """Put a legend below a figure, which grows with it."""
    handles, labels = axes.get_legend_handles_labels()
    width, height = figure.get_size_inches()
    columns = legend_columns(labels, width)
    figure.set_figheight(height + 0.18 * max(0, math.ceil(len(labels) / columns) - ROWS_OF_LEGEND))
    figure.legend(handles, labels, loc="outside lower center", ncols=columns, frameon=False, fontsize=9)

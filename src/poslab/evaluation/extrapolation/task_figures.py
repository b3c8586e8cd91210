"""Tables and figures of the metrics of a task at each length, for runs that `measure` has scored."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np
import pandas as pd

from poslab.evaluation.extrapolation.length_figures import ALL, length_name, lines_by_length
from poslab.evaluation.scores.bootstrap import FEWEST
from poslab.evaluation.scores.intervals import interval
from poslab.evaluation.scores.items import MeasuredRun
from poslab.report.figures import Plot, ReportFigure, Table
from poslab.tasks.task import Task

MIN_SHARE, MIN_LOSS = 5.0, 0.05
"""Least spans of the axes of shares and losses, so that noise does not look like a steep gain."""


def metrics_by_length(measured: Mapping[str, MeasuredRun], open_ended: Collection[str], seed: int) -> pd.DataFrame:
    """Return every metric at every length, with its 95 % interval over items and their number.

    Args:
        measured: runs by name.
        open_ended: metrics that are no shares.
        seed: of the bootstrap.

    Returns:
        Columns `metric`, `model`, `length` (0 is all together), `value`, `low`, `high` and `items`; low and high are
        NaN for a metric of the whole corpus, such as BLEU, and with fewer than 5 items.
    """
    rows = []
    for model, run in measured.items():
        numbers = {length: int((one.counts > 0).sum()) for (_, length), one in run.scores.items()}
        for (metric, length), one in run.scores.items():
            low, high = interval(one, metric not in open_ended, seed)
            rows.append((metric, model, length or ALL, one.value, low, high, numbers[length]))
        for (metric, length), value in run.values.items():
            rows.append((metric, model, length or ALL, value, np.nan, np.nan, numbers.get(length, 0)))
    return pd.DataFrame(rows, columns=["metric", "model", "length", "value", "low", "high", "items"])


def metrics_shown(rows: pd.DataFrame, task: Task) -> list[str]:
    """Return the metrics of a task that a picture shows: not those which follow from another, as perplexity does."""
    own = rows[rows["low"].notna() | ~rows["metric"].isin(task.open_ended) | (rows["metric"] == "loss")]
    return [metric for metric in task.shown if metric in set(own["metric"])]


def metrics_figures(
    rows: pd.DataFrame,
    shown: Sequence[str],
    open_ended: Collection[str],
    training_lengths: Mapping[str, int],
    length_means: str,
    multiples_of: int | None = None,
) -> list[ReportFigure]:
    """Return the table of `metrics_by_length` and, of metrics that differ at several lengths, a picture.

    Args:
        rows: of `metrics_by_length`.
        shown: the metrics of the picture.
        open_ended: metrics that are no shares.
        training_lengths: longest length of training, by model.
        length_means: what a length is.
        multiples_of: as of `length_name`, for the picture.
    """
    figures: list[ReportFigure] = []
    of_lengths = rows[rows["length"] != ALL]
    shares = ~of_lengths["metric"].isin(open_ended)
    rounded = of_lengths["value"].round(3).mask(shares, of_lengths["value"].round(1))
    values = rounded.groupby(of_lengths["metric"]).nunique()
    drawn = [metric for metric in shown if values.get(metric, 0) > 1]  # a constant says nothing
    if drawn and of_lengths["length"].nunique() > 1:
        titles = {metric: metric.replace("_", " ") for metric in drawn}
        figure = lines_by_length(
            rows,
            training_lengths,
            by="metric",
            titles=titles,
            xlabel=length_means,
            least={metric: MIN_LOSS if metric in open_ended else MIN_SHARE for metric in drawn},
            multiples_of=multiples_of,
        )
        caption = (
            "Of a loss less is better; anything else is from 0 to 100, and more is better. The dotted line is the "
        )
        caption += "longest length of training. "
        caption += "Shaded: 95 % interval over items; metrics of the whole test, such as macro F1, have none."
        figures.append(Plot("metrics_by_length", "Metrics by length", caption, figure))
    names = [*shown, *sorted(set(rows["metric"]) - set(shown))]
    last = rows["length"].max() + 1
    ordered = rows.assign(place=rows["metric"].map(names.index), later=rows["length"].replace(ALL, last))
    ordered = ordered.sort_values(["place", "later"], kind="stable")
    table = Table(
        "per_length",
        "Every metric at every length",
        "Low and high are a 95 % interval over items, another test of as many: Wilson's or Student's for shares, the "
        f"studentised bootstrap for losses. It says nothing of other seeds. Dashes: a metric of the whole test, or "
        f"fewer than {FEWEST} items.",
        ordered.assign(
            metric=ordered["metric"].str.replace("_", " "), length=[length_name(length) for length in ordered["length"]]
        )[["metric", "length", "model", "value", "low", "high", "items"]],
        decimals={"value": 3, "low": 3, "high": 3},
    )
    return [*figures, table]

"""Predictions that a comparison file made before its runs, next to what was measured."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from poslab.experiments.published import Prediction, predictions_of
from poslab.experiments.report.papers import FAILS, HOLDS, OPEN, UNTESTED, criterion_of
from poslab.experiments.results import Results
from poslab.experiments.statistics.crossed import estimate
from poslab.experiments.statistics.difference import MIN_SEEDS
from poslab.report.figures import Table
from poslab.report.page import Section


def measured(results: Results, prediction: Prediction) -> tuple[float, float, float] | None:
    """Return the predicted value as measured, and the ends of its 95% interval; None where there is no interval."""
    criterion = criterion_of(results, prediction.case, prediction.metric)
    scores = results.scores(prediction.case, criterion)
    if any(name not in scores for name in (prediction.of, prediction.minus or prediction.of)):
        return None
    if prediction.minus is not None:
        difference = results.verdicts(prediction.case, criterion, prediction.minus)[prediction.of].difference
        return None if difference.estimate is None else (difference.mean, *difference.interval)
    known = scores[prediction.of].of_seeds(scores[prediction.of].finished)
    if len(known.values) < MIN_SEEDS:
        return None
    mean = estimate([known.values[:, None] if known.items is None else known.items.astype(np.float64)])
    low, high = mean.interval()
    return float(mean.mean), float(low), float(high)


def outcome(prediction: Prediction, value: tuple[float, float, float] | None) -> str:
    """Return whether a prediction holds: if the whole interval is in its bounds; not, if none of it is."""
    if value is None:
        return UNTESTED
    (least, most), (_, low, high) = prediction.bounds, value
    if least <= low and high <= most:
        return HOLDS
    return FAILS if high < least or most < low else OPEN


def predictions_table(results: Results) -> pd.DataFrame:
    """Return a row for each prediction: what it says, what was measured, and its outcome."""
    rows = []
    for prediction in predictions_of(results.comparison):
        least, most = prediction.bounds
        value = measured(results, prediction)
        rows.append(
            {
                "prediction": prediction.say,
                "predicted": f"{least:g} to {most:g}".replace("-inf to ", "at most ")
                if np.isfinite(most)
                else f"at least {least:g}",
                "measured": "–" if value is None else "{:.3g} ({:.3g} to {:.3g})".format(*value),
                "outcome": outcome(prediction, value),
            }
        )
    return pd.DataFrame(rows, columns=["prediction", "predicted", "measured", "outcome"])


def prediction_section(results: Results) -> Iterator[Section]:
    """Yield the section of a report on the predictions, if the comparison has any."""
    if not (table := predictions_table(results)).empty:
        caption = (
            "Made before the runs. One holds if the whole 95% interval of the measured value lies in the predicted "
            "range, does not hold if none of it does, and is inconclusive otherwise."
        )
        yield Section("Predictions", "", [Table("predictions", "Predictions", caption, table)])

"""Scores of runs on the items of a test. Dimension letter: I items."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from poslab.evaluation.scores.item_files import read_measured
from poslab.evaluation.scores.items import ItemScores, MeasuredRun, shared_items
from poslab.experiments.cells import EXTRA_SCORES, SCORES, Cell, CellResult
from poslab.experiments.metrics import tag_of


def measured_run(folder: Path, cell: Cell, result: CellResult | None) -> MeasuredRun | None:
    """Return the scores of a run on each test item; None if its directory has none, or those of other weights.

    Scores whose values are not those of the result are of other weights, or were changed.
    """
    try:
        found = read_measured(folder / SCORES)
        if cell.extra:
            found = found.joined(read_measured(folder / EXTRA_SCORES))
    except ValueError:
        return None
    known = {} if result is None else result.scores
    for (metric, length), one in found.scores.items():
        value = known.get(tag_of(metric, length), one.value)
        if not np.isclose(one.value, value, rtol=1e-6, equal_nan=True):
            return None
    return found


def rows_of_items(runs: Sequence[Sequence[ItemScores]], aggregate_lengths: bool) -> list[np.ndarray] | None:
    """Return the scores of each run, (I,), on the items that all runs have positions for.

    Their mean is the mean of a metric over lengths, each of which counts alike.

    Args:
        runs: of each, the scores at each length.
        aggregate_lengths: whether each length has items of its own. Otherwise these are the same texts, read in windows
            of each length, and the result is None if a length has another number of them.

    Raises:
        ValueError: if runs were tested on different items.
    """
    shared = [shared_items(of_length) for of_length in zip(*runs, strict=True)]
    sizes = [len(scores[0].sums) for scores in shared]
    if aggregate_lengths:
        weights = [sum(sizes) / (len(sizes) * size) for size in sizes]
        parts = [[weight * one.linearised for one in scores] for weight, scores in zip(weights, shared, strict=True)]
        return [np.concatenate(row) for row in zip(*parts, strict=True)]
    if len(set(sizes)) > 1:
        return None
    return [np.mean([one.linearised for one in row], axis=0) for row in zip(*shared, strict=True)]

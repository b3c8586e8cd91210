"""Lengths of the tests of a comparison, and the values of metrics at them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from poslab.comparison.comparison import Comparison, Criterion
from poslab.configuration.build import nearest
from poslab.data.run_data import RunData
from poslab.tasks.task import Task


def checked_lengths(comparison: Comparison, case: str, task: type[Task], data: RunData) -> list[int]:
    """Return the lengths of the test of a case, ascending.

    Raises:
        ValueError: for a length that the test does not have, a metric that the task does not have, or one at lengths
            that are not tested.
    """
    asked = comparison.all_cases[case].lengths
    trained = data.longest_trained
    lengths = data.lengths_of("test") if asked is None else sorted({_tokens(length, trained) for length in asked})
    data.connect(task.of(data), None)
    for length in [] if asked is None else lengths:
        try:
            count = len(data.held_out("test", length).num_tokens)
        except ValueError as error:
            raise ValueError(f"cases.{case}: {error}") from error
        if not count:
            raise ValueError(f"cases.{case}: lengths must be those of examples of the test, which has none of {length}")
    criteria = comparison.criteria(case)
    if (gate := comparison.gate_of(case)) is not None:
        criteria = [*criteria, gate.criterion]
    for criterion in criteria:
        known = metrics_of(task)
        if criterion.name not in known:
            raise ValueError(
                f"cases.{case}: there is no metric {criterion.name} in its task, which has {', '.join(known)}"
                f"{nearest(criterion.name, known)}"
            )
        if not at_lengths(criterion, lengths, trained):
            raise ValueError(
                f"cases.{case}: {criterion.metric} is at none of the lengths of its test, "
                f"{', '.join(map(str, lengths))} (trained up to {trained})"
            )
    tuning = comparison.tuning_of(case)
    if tuning is not None and tuning.metric not in task.validated:
        known = list(task.validated)
        raise ValueError(
            f"cases.{case}: tuning.metric must be one of a validation, {', '.join(known)}, got {tuning.metric}"
            f"{nearest(tuning.metric, known)}"
        )
    return lengths


def metrics_of(task: type[Task]) -> list[str]:
    """Return the names of the metrics of a task's test."""
    names = dict.fromkeys((*task.shown, *task.validated))
    if "bits_per_byte" in names:
        names["sliding_bits_per_byte"] = None
    return list(names)


def at_lengths(criterion: Criterion, lengths: Sequence[int], trained: int) -> list[int]:
    """Return the lengths of a metric, among those of the test; `trained` is the longest of training."""
    where = criterion.where
    if where in ("", "trained", "beyond"):
        return [n for n in lengths if not where or (n <= trained) == (where == "trained")]
    return [n for n in lengths if n == _tokens(where, trained)]


def value(criterion: Criterion, scores: Mapping[str, float], lengths: Sequence[int], trained: int) -> float:
    """Return the value of a metric from the scores of a test by tag: the mean over its lengths; NaN if one is missing.

    A test without lengths has its scores under the plain name.
    """
    if not criterion.where and criterion.name in scores:
        return scores[criterion.name]
    values = [scores.get(f"{criterion.name}@{n}", math.nan) for n in at_lengths(criterion, lengths, trained)]
    return sum(values) / len(values) if values else math.nan


def _tokens(length: int | str, trained: int) -> int:
    text = str(length)
    return int(text[:-1]) * trained if text.endswith("x") else int(text)

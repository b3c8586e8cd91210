"""Lengths of the tests of a comparison, and the values of metrics at them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from poslab.comparison.comparison import Comparison
from poslab.comparison.criteria import Criterion
from poslab.configuration.build import nearest
from poslab.configuration.lengths import tokens, whole_tokens
from poslab.data.run_data import RunData
from poslab.evaluation.scores.extra_metrics import EXTRA, OPEN_ENDED, extra_metrics_of
from poslab.runs.recipe import Recipe
from poslab.tasks.task import Task


def checked_lengths(comparison: Comparison, case: str, recipe: Recipe, data: RunData) -> list[int]:
    """Return the lengths of the test of a case, ascending.

    Raises:
        ValueError: for a length that the test does not have, a metric that the task does not have, or one at lengths
            that are not tested.
    """
    task, asked = recipe.task, comparison.all_cases[case].lengths
    trained = data.longest_trained
    try:
        lengths = sorted(data.lengths_of("test") if asked is None else {whole_tokens(n, trained) for n in asked})
    except ValueError as error:
        raise ValueError(f"cases.{case}: {error}") from error
    data.connect(task.of(data), None)
    for length in [] if asked is None else lengths:
        try:
            count = len(data.held_out("test", length).num_tokens)
        except ValueError as error:
            raise ValueError(f"cases.{case}: {error}") from error
        if not count:
            raise ValueError(f"cases.{case}: lengths must be those of examples of the test, which has none of {length}")
    known = [*metrics_of(task), *extra_metrics_of(recipe)]
    for criterion in _deciding(comparison, case):
        if criterion.name not in known:
            raise ValueError(
                f"cases.{case}: there is no metric {criterion.name} in its task, which has {', '.join(known)}"
                f"{nearest(criterion.name, known)}"
            )
        if criterion.name in EXTRA:
            _check_extra(case, criterion, data)
        elif not at_lengths(criterion, lengths, trained):
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


def _check_extra(case: str, criterion: Criterion, data: RunData) -> None:
    """Raise ValueError for a metric beside those of the task that lacks a length, or has one that it cannot have."""
    name, texts = criterion.name, EXTRA[criterion.name].texts
    if texts is None:
        if criterion.where:
            raise ValueError(f"cases.{case}: {criterion.metric} must be {name}, of all test items")
        return
    if criterion.where in ("", "trained", "beyond"):
        raise ValueError(f"cases.{case}: {criterion.metric} must have a length, as {name}@1024 or {name}@4x")
    try:
        texts(data, "test", whole_tokens(criterion.where, data.longest_trained))
    except ValueError as error:
        raise ValueError(f"cases.{case}: {criterion.metric}: {error}") from error


def metrics_of(task: type[Task]) -> list[str]:
    """Return the names of the metrics of a task's test."""
    names = dict.fromkeys((*task.shown, *task.validated))
    if "bits_per_byte" in names:
        names["sliding_bits_per_byte"] = None
    return list(names)


def _deciding(comparison: Comparison, case: str) -> list[Criterion]:
    """Return the metrics of a case, with that of its gate."""
    gate = comparison.gate_of(case)
    return [*comparison.criteria(case), *([] if gate is None else [gate.criterion])]


def extra_tags(comparison: Comparison, case: str, trained: int) -> list[str]:
    """Return the tags of the metrics of a case beside those of its task, with lengths in tokens."""
    extra = [criterion for criterion in _deciding(comparison, case) if criterion.name in EXTRA]
    lengths = [at_lengths(criterion, (), trained) for criterion in extra]
    return list(
        dict.fromkeys(tag_of(one.name, own[0] if own else None) for one, own in zip(extra, lengths, strict=True))
    )


def tag_of(metric: str, length: int | None) -> str:
    """Return the tag of a metric at a length; None is the whole test."""
    return metric if length is None else f"{metric}@{length}"


def is_share(metric: str, task: type[Task]) -> bool:
    """Return whether the values of a metric of a task are shares, from 0 to 100."""
    return metric.removeprefix("sliding_") not in task.open_ended and metric not in OPEN_ENDED


def at_lengths(criterion: Criterion, lengths: Sequence[int], trained: int) -> list[int]:
    """Return the lengths of a metric, among those of the test; `trained` is the longest of training.

    Metrics of texts that are made to a length have the one that they name.
    """
    where = criterion.where
    if criterion.name in EXTRA:
        return [whole_tokens(where, trained)] if where not in ("", "trained", "beyond") else []
    if where in ("", "trained", "beyond"):
        return [n for n in lengths if not where or (n <= trained) == (where == "trained")]
    return [n for n in lengths if n == tokens(where, trained)]


def value(criterion: Criterion, scores: Mapping[str, float], lengths: Sequence[int], trained: int) -> float:
    """Return the value of a metric from the scores of a test by tag: the mean over its lengths; NaN if one is missing.

    A test without lengths has its scores under the plain name.
    """
    if not criterion.where and criterion.name in scores:
        return scores[criterion.name]
    values = [scores.get(f"{criterion.name}@{n}", math.nan) for n in at_lengths(criterion, lengths, trained)]
    return sum(values) / len(values) if values else math.nan

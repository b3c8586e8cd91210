"""Lengths of the tests of a comparison, and checks of the metrics at them."""

from __future__ import annotations

from poslab.configuration.build import nearest
from poslab.configuration.command_line import whole_tokens
from poslab.data.run_data import RunData
from poslab.evaluation.scores.extra_metrics import EXTRA, extra_metrics_of
from poslab.experiments.comparison import Comparison
from poslab.experiments.criteria import Criterion
from poslab.experiments.metrics import at_lengths, metrics_of
from poslab.runs.recipe import Recipe


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
    for criterion in comparison.deciding(case):
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
    """Raise ValueError for an extra metric that lacks a length, or has one that it cannot have."""
    name, texts = criterion.name, EXTRA[criterion.name].texts
    if texts is None:
        if criterion.where:
            raise ValueError(f"cases.{case}: {criterion.metric} must be {name}, of all test items")
        return
    if not criterion.names_length:
        raise ValueError(f"cases.{case}: {criterion.metric} must have a length, as {name}@1024 or {name}@4x")
    try:
        texts(data, "test", whole_tokens(criterion.where, data.longest_trained))
    except ValueError as error:
        raise ValueError(f"cases.{case}: {criterion.metric}: {error}") from error

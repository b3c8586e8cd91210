"""Metrics of a test by their tags, such as `bits_per_byte@1024`: their lengths and their values."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence

from poslab.configuration.command_line import tokens, whole_tokens
from poslab.evaluation.scores.extra_metrics import EXTRA, OPEN_ENDED
from poslab.evaluation.scores.tokens import CONTEXT_GAIN
from poslab.experiments.comparison import Comparison
from poslab.experiments.criteria import Criterion, Direction
from poslab.tasks.task import Task

SLIDING = "sliding_bits_per_byte"


def tag_of(metric: str, length: int | None) -> str:
    """Return the tag of a metric at a length; None is the whole test."""
    return metric if length is None else f"{metric}@{length}"


def of_tag(tag: str) -> tuple[str, int | None]:
    """Return the metric and the length of a tag that `tag_of` has made."""
    metric, _, length = tag.partition("@")
    return metric, int(length) if length else None


def metrics_of(task: type[Task]) -> list[str]:
    """Return the names of the metrics of a task's test that have scores at each length."""
    if "bits_per_byte" in task.validated:  # a text has only metrics of its bytes
        return ["bits_per_byte", SLIDING, CONTEXT_GAIN]
    return list(dict.fromkeys((*task.shown, *task.validated)))


def extra_tags(comparison: Comparison, case: str, trained: int) -> list[str]:
    """Return the tags of the metrics of a case that its task does not have, with lengths in tokens."""
    extra = [criterion for criterion in comparison.deciding(case) if criterion.name in EXTRA]
    tags = (tag_of(criterion.name, next(iter(at_lengths(criterion, (), trained)), None)) for criterion in extra)
    return list(dict.fromkeys(tags))


def is_share(metric: str, open_ended: Collection[str]) -> bool:
    """Return whether a metric is a share, from 0 to 100; `open_ended` are the metrics of its task that are not."""
    return metric.removeprefix("sliding_") not in open_ended and metric not in (CONTEXT_GAIN, *OPEN_ENDED)


def usual_direction(metric: str, open_ended: Collection[str]) -> Direction:
    """Return the direction of the better values of a metric, where none is declared; arguments as of `is_share`."""
    return "minimize" if metric.removeprefix("sliding_") in open_ended else "maximize"


def at_lengths(criterion: Criterion, lengths: Sequence[int], trained: int) -> list[int]:
    """Return the lengths of a metric, among the lengths of the test; `trained` is the longest of training.

    Metrics of texts that are made to a length have the one that they name.
    """
    where = criterion.where
    if criterion.name in EXTRA:
        return [whole_tokens(where, trained)] if criterion.names_length else []
    if criterion.name == CONTEXT_GAIN:  # there is none in windows of training
        lengths = [n for n in lengths if n > trained]
    if criterion.names_length:
        return [n for n in lengths if n == tokens(where, trained)]
    return [n for n in lengths if not where or (n <= trained) == (where == "trained")]


def scored_lengths(
    criterion: Criterion, scores: Mapping[str, float], lengths: Sequence[int], trained: int
) -> list[int | None]:
    """Return the lengths of a metric in the scores of a test by tag; None is a score of the whole test."""
    if not criterion.where and criterion.name in scores:
        return [None]
    return [*at_lengths(criterion, lengths, trained)]


def value(criterion: Criterion, scores: Mapping[str, float], lengths: Sequence[int], trained: int) -> float:
    """Return the mean of a metric over its lengths, from the scores of a test by tag; NaN if one is missing."""
    at = scored_lengths(criterion, scores, lengths, trained)
    values = [scores.get(tag_of(criterion.name, length), math.nan) for length in at]
    return sum(values) / len(values) if values else math.nan


def in_words(criterion: Criterion) -> str:
    """Return a metric in words: `exact match beyond the training length`, `bits per byte at 4 times ...`."""
    name, where = criterion.name.replace("_", " "), criterion.where
    if where.endswith("x"):
        times = "" if where == "1x" else f"{where[:-1]} times "
        return f"{name} at {times}the training length"
    suffixes = {"": "", "beyond": " beyond the training length", "trained": " up to the training length"}
    return name + (suffixes[where] if where in suffixes else f" at length {int(where):,}")

"""Statements of a comparison file on results: of a paper, and predictions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from poslab.arguments import Count, nearest, with_checked_arguments
from poslab.experiments.comparison import Comparison, made
from poslab.experiments.criteria import Criterion

SEEN = Literal["pdf", "raw_results", "code", "secondary"]
"""Source in which a value was read: the paper itself, the authors' raw results or code, or a text that repeats it."""


@with_checked_arguments
@dataclass(frozen=True)
class Paper:
    """The source of published results: title, number on arXiv, table, and the address of the code."""

    title: str
    arxiv: str
    table: str | None = None
    code: str | None = None


@with_checked_arguments
@dataclass(frozen=True)
class Published:
    """A published value, in the unit of the paper."""

    case: str  # in the words of the paper, or the name of a case of the comparison
    encoding: str  # name of an encoding in conf/encoding
    # value, sd, n: value, standard deviation and number of seeds, as far as they are given
    value: float
    seen: SEEN  # where it was read
    at: str | int | None = None  # length, or its multiple of the training length, such as `8x`
    sd: float | None = None
    n: int | None = None
    # our tag that is compared with it, on the case of the same name, or on the only one; None is the first metric of
    # the case of the same name, if there is one
    metric: str | None = None
    # of a value that is the smallest base of rotary for a context of `at` tokens; it is computed too
    head_dim: Count | None = None

    def __post_init__(self) -> None:
        if self.metric is not None:
            Criterion(self.metric, "minimize")  # raises ValueError for what is not a metric
        if self.head_dim is not None and (type(self.at) is not int or self.at < 1 or self.head_dim % 2):
            raise ValueError("head_dim must be even, and at a length in tokens")


@with_checked_arguments
@dataclass(frozen=True)
class Claim:
    """A claim of a paper: an encoding is better than another one on a case, by a metric of the comparison."""

    say: str  # the claim in a sentence
    # better, than: names of encodings of the comparison
    better: str
    than: str
    case: str | None = None  # name of a case of the comparison; None if the comparison has none for it
    metric: str | None = None  # a tag, as of a criterion; None is the first metric of the case
    # what else in our setting the outcome depends on, so that it says nothing of the claim
    confounded: str | None = None

    def __post_init__(self) -> None:
        if not self.say.strip():
            raise ValueError("say must be a sentence")
        if self.better == self.than:
            raise ValueError(f"better and than must be different encodings, got {self.better} twice")
        if self.metric is not None:
            Criterion(self.metric, "minimize")  # raises ValueError for what is not a metric


@with_checked_arguments
@dataclass(frozen=True)
class Prediction:
    """A prediction before the runs: where the mean of an encoding will be, or its difference to another."""

    say: str  # the prediction in a sentence
    of: str  # name of the encoding
    case: str  # name of the case
    metric: str | None = None  # a tag, as of a criterion; None is the first metric of the case
    minus: str | None = None  # name of the encoding whose mean is subtracted; None predicts the mean itself
    # at_least, at_most: bounds of the value, in the unit of the metric; one of them may be missing
    at_least: float | None = None
    at_most: float | None = None

    def __post_init__(self) -> None:
        low, high = self.bounds
        if not self.say.strip():
            raise ValueError("say must be a sentence")
        if not low < high or self.at_least is self.at_most is None:
            raise ValueError(f"at_least must be below at_most, and one of both given, got {low} and {high}")
        if self.of == self.minus:
            raise ValueError(f"of and minus must be different encodings, got {self.of} twice")
        if self.metric is not None:
            Criterion(self.metric, "minimize")  # raises ValueError for what is not a metric

    @property
    def bounds(self) -> tuple[float, float]:
        """The predicted values, from and to."""
        return (
            -math.inf if self.at_least is None else self.at_least,
            math.inf if self.at_most is None else self.at_most,
        )


@dataclass(frozen=True)
class PublishedResults:
    """Published results that a comparison repeats, and sentences on what our setting does otherwise (`differences`)."""

    paper: Paper
    values: Sequence[Published]
    claims: Sequence[Claim]
    differences: Sequence[str]


def published_results(comparison: Comparison) -> PublishedResults | None:
    """Return what a comparison says of a paper; None if it repeats none.

    ValueError for anything that is not declared, such as a value without its source.
    """
    if comparison.paper is None:
        return None
    if not all(isinstance(sentence, str) and sentence for sentence in comparison.differences):
        raise ValueError("differences must be sentences")
    return PublishedResults(
        made(Paper, "paper", comparison.paper),
        [made(Published, f"published[{number}]", node) for number, node in enumerate(comparison.published)],
        [made(Claim, f"claims[{number}]", node) for number, node in enumerate(comparison.claims)],
        comparison.differences,
    )


def predictions_of(comparison: Comparison) -> list[Prediction]:
    """Return the predictions of a comparison; ValueError for one that is none, or names an unknown case or encoding."""
    predictions = [made(Prediction, f"predictions[{n}]", node) for n, node in enumerate(comparison.predictions)]
    for number, prediction in enumerate(predictions):
        if prediction.case not in comparison.all_cases:
            raise ValueError(
                f"predictions[{number}].case: there is no case {prediction.case}"
                f"{nearest(prediction.case, comparison.all_cases)}"
            )
        names = comparison.encodings_of(prediction.case)
        for name in (prediction.of, prediction.minus):
            if name is not None and name not in names:
                raise ValueError(f"predictions[{number}]: {prediction.case} has no {name}{nearest(name, names)}")
    return predictions

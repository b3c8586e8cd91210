"""Criteria of a case: metrics of its test, the value of one from which on it counts as learned, and costs of runs."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from poslab.arguments import Positive, with_checked_arguments
from poslab.configuration.command_line import LENGTH

Direction = Literal["minimize", "maximize"]  # direction of the better values: small ones, or large ones


def better(direction: Direction) -> str:
    """Return the word for better values: lower or higher."""
    return "lower" if direction == "minimize" else "higher"


def sign(direction: Direction) -> int:
    """Return the factor that makes a gain of a value: 1 where large values are good, else -1."""
    return -1 if direction == "minimize" else 1


@with_checked_arguments
@dataclass(frozen=True)
class Criterion:
    """A metric that decides, at some lengths."""

    # its tag. `exact_match@20` is at length 20, `bits_per_byte@4x` at four times the training length,
    # `exact_match@trained` the mean over lengths up to the training length, `exact_match@beyond` the mean over longer
    # ones, and `accuracy` the mean over all test items
    metric: str
    direction: Direction  # of the better values
    # smallest difference that matters, in the unit of the metric; None means that any does
    margin: Positive | None = None
    # standard deviation over seeds that is expected, for `dry_run` where no finished run tells it
    deviation: Positive | None = None

    def __post_init__(self) -> None:
        if not re.fullmatch(rf"[a-z0-9_]+(@({LENGTH}|trained|beyond))?", self.metric):
            raise ValueError(
                f"metrics: {self.metric} must be a metric of the test, perhaps with its lengths, such as accuracy, "
                "exact_match@beyond, exact_match@20 or bits_per_byte@4x"
            )

    @property
    def name(self) -> str:
        """The metric without its lengths."""
        return self.metric.partition("@")[0]

    @property
    def where(self) -> str:
        """The lengths of the metric: `20`, `4x`, `trained`, `beyond`, or "" for all."""
        return self.metric.partition("@")[2]

    @property
    def names_length(self) -> bool:
        """True if the metric is at one length, such as `20` or `4x`."""
        return self.where not in ("", "trained", "beyond")


@with_checked_arguments
@dataclass(frozen=True)
class Gate:
    """The value of a metric from which on a case counts as learned: `at_least` or `at_most`, in its unit."""

    metric: str
    at_least: float | None = None
    at_most: float | None = None

    def __post_init__(self) -> None:
        if (self.at_least is None) == (self.at_most is None):
            raise ValueError("gate must have at_least or at_most, as in {metric: exact_match@trained, at_least: 99}")
        _ = self.criterion  # raises ValueError for a tag that is none

    @property
    def criterion(self) -> Criterion:
        """The metric, of which more is better if it has to be at least something."""
        return Criterion(self.metric, "minimize" if self.at_least is None else "maximize")

    def passes(self, value: float) -> bool:
        """Return whether a value passes; NaN does not."""
        return value >= self.at_least if self.at_least is not None else value <= (self.at_most or 0.0)


COSTS = {
    "parameters": "parameters",
    "train_tokens_per_second": "train/tokens_per_second",
    "seconds": "train/seconds",
    "memory": "memory/peak_mb",
}
"""Tags in metrics.json of the costs of a run, by the name that a comparison gives them."""

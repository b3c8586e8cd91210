"""Objectives of a sweep: metrics of a run, or means of several, to minimize or maximize."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from poslab.configuration.command_line import LENGTH, whole_tokens

SPLITS = ("validation/", "train/", "memory/", "parameters")
"""Beginnings of tags that may be tuned on; test metrics never are."""


@dataclass(frozen=True)
class Objective:
    """The mean of some metrics of metrics.json.

    Args:
        metrics: their tags. `@2x` is twice the training length: `validation/bits_per_byte@2x`.
        direction: `minimize` or `maximize`.

    Raises:
        ValueError: for test metrics, an unknown direction, or no metrics.
    """

    metrics: tuple[str, ...]
    direction: str

    def __post_init__(self) -> None:
        if not self.metrics or not all(isinstance(tag, str) for tag in self.metrics):
            raise ValueError("objectives: mean must list metrics of metrics.json, as in [validation/bits_per_byte@2x]")
        for tag in self.metrics:
            if tag.startswith("test/"):
                raise ValueError(f"objectives must not be test metrics, which are never tuned on, got {tag}")
            if not tag.startswith(SPLITS):
                raise ValueError(f"objectives must be metrics such as validation/bits_per_byte@2x, got {tag}")
        if self.direction not in ("minimize", "maximize"):
            raise ValueError(f"direction of an objective must be minimize or maximize, got {self.direction}")

    @classmethod
    def of(cls, node: Any) -> Objective:
        """Return the objective that a sweep file describes: a tag, or `{mean: [tags], direction: minimize}`."""
        if isinstance(node, str):
            node = {"mean": [node]}
        if not isinstance(node, Mapping) or not node.keys() <= {"mean", "direction"}:
            raise ValueError(f"objectives must be a list of {{mean: [metrics], direction: minimize}}, got {node!r}")
        tags = node.get("mean")
        return cls(tuple(tags) if isinstance(tags, list) else (), node.get("direction", "minimize"))

    @property
    def minimized(self) -> bool:
        """True if less is better."""
        return self.direction == "minimize"

    @property
    def better(self) -> str:
        """The better direction in a word: less or more."""
        return "less" if self.minimized else "more"

    @property
    def label(self) -> str:
        """Name in tables: `validation/bits_per_byte@1x+2x+4x`."""
        name, at, _ = self.metrics[0].partition("@")
        if at and all(tag.startswith(f"{name}@") for tag in self.metrics):
            return f"{name}@{'+'.join(tag.partition('@')[2] for tag in self.metrics)}"
        return " + ".join(self.metrics)

    def is_known_at_validations(self) -> bool:
        """Return whether it can be reported while a run trains."""
        return all(tag.startswith("validation/") for tag in self.metrics)

    def value(self, metrics: Mapping[str, float], training_length: int) -> float:
        """Return the mean over a run's metrics by tag, with its training length in tokens.

        Raises:
            ValueError: naming a metric that the run does not have, such as one beyond the end of an encoding.
        """
        tags = [self._tag(tag, training_length) for tag in self.metrics]
        for tag in tags:
            if tag not in metrics:
                raise ValueError(f"the run has no {tag}: is there such a metric, or does its encoding end before?")
        return sum(metrics[tag] for tag in tags) / len(tags)

    @staticmethod
    def _tag(tag: str, training_length: int) -> str:
        name, _, length = tag.partition("@")
        return f"{name}@{whole_tokens(length, training_length)}" if re.fullmatch(LENGTH, length) else tag

    def lengths(self, training_length: int) -> list[int]:
        """Return the window lengths, in tokens, of its metrics.

        Raises:
            ValueError: for a multiple of the training length that is not a whole number.
        """
        resolved = (self._tag(tag, training_length).partition("@")[2] for tag in self.metrics)
        return [int(length) for length in resolved if length.isdigit()]


def objectives_of(nodes: Any) -> list[Objective]:
    """Return the objectives of a sweep file; raise ValueError if there are none."""
    if not isinstance(nodes, list) or not nodes:
        raise ValueError(f"objectives must be a list of at least one, as in [validation/loss], got {nodes!r}")
    return [Objective.of(node) for node in nodes]

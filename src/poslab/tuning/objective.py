"""Objectives of a sweep: figures of a run, or the mean of several, that are made small or large."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

SPLITS = ("validation/", "train/", "memory/", "parameters")
"""Beginnings of tags that may be tuned on. Nothing is ever tuned on test figures."""


@dataclass(frozen=True)
class Objective:
    """The mean of some figures of metrics.json.

    Args:
        figures: their tags. `@2x` is twice the training length: `validation/bits_per_byte@2x`.
        direction: `minimize` or `maximize`.

    Raises:
        ValueError: for test figures, a direction that does not exist, or no figures.
    """

    figures: tuple[str, ...]
    direction: str

    def __post_init__(self) -> None:
        if not self.figures or not all(isinstance(tag, str) for tag in self.figures):
            raise ValueError("objectives: mean must list figures of metrics.json, as in [validation/bits_per_byte@2x]")
        for tag in self.figures:
            if tag.startswith("test/"):
                raise ValueError(f"objectives must not be test figures, which nothing is tuned on, got {tag}")
            if not tag.startswith(SPLITS):
                raise ValueError(f"objectives must be figures such as validation/bits_per_byte@2x, got {tag}")
        if self.direction not in ("minimize", "maximize"):
            raise ValueError(f"direction of an objective must be minimize or maximize, got {self.direction}")

    @classmethod
    def of(cls, node: Any) -> Objective:
        """Return the objective that a sweep file describes: a tag, or `{mean: [tags], direction: minimize}`."""
        if isinstance(node, str):
            node = {"mean": [node]}
        if not isinstance(node, Mapping) or not node.keys() <= {"mean", "direction"}:
            raise ValueError(f"objectives must be a list of {{mean: [figures], direction: minimize}}, got {node!r}")
        tags = node.get("mean")
        return cls(tuple(tags) if isinstance(tags, list) else (), node.get("direction", "minimize"))

    @property
    def minimized(self) -> bool:
        """Whether less is better."""
        return self.direction == "minimize"

    @property
    def label(self) -> str:
        """Name in tables: `validation/bits_per_byte@1x+2x+4x`."""
        name, at, _ = self.figures[0].partition("@")
        if at and all(tag.startswith(f"{name}@") for tag in self.figures):
            return f"{name}@{'+'.join(tag.partition('@')[2] for tag in self.figures)}"
        return " + ".join(self.figures)

    def is_known_at_validations(self) -> bool:
        """Return whether it can be reported while a run trains."""
        return all(tag.startswith("validation/") for tag in self.figures)

    def value(self, figures: Mapping[str, float], training_length: int) -> float:
        """Return the mean.

        Args:
            figures: of a run, by tag.
            training_length: tokens of its training window.

        Raises:
            ValueError: naming a figure that the run does not have, such as one beyond the end of an encoding.
        """
        tags = [self._tag(tag, training_length) for tag in self.figures]
        for tag in tags:
            if tag not in figures:
                raise ValueError(f"the run has no {tag}: is there such a figure, or does its encoding end before?")
        return sum(figures[tag] for tag in tags) / len(tags)

    @staticmethod
    def _tag(tag: str, training_length: int) -> str:
        return re.sub(r"@(\d+)x$", lambda found: f"@{int(found.group(1)) * training_length}", tag)

    def lengths(self, training_length: int) -> list[int]:
        """Return the window lengths, in tokens, of its figures."""
        resolved = (self._tag(tag, training_length).partition("@")[2] for tag in self.figures)
        return [int(length) for length in resolved if length.isdigit()]


def objectives_of(nodes: Any) -> list[Objective]:
    """Return the objectives of a sweep file; raise ValueError if there are none."""
    if not isinstance(nodes, list) or not nodes:
        raise ValueError(f"objectives must be a list of at least one, as in [validation/loss], got {nodes!r}")
    return [Objective.of(node) for node in nodes]

"""Costs of runs: those of training, which a comparison lists with its metrics, and those of reading a test."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

from poslab.arguments import Count, Range, with_checked_arguments
from poslab.io.files import read_json, write_atomically


@dataclass(frozen=True)
class Cost:
    """A cost of a run.

    Args:
        tag: of its metric in metrics.json.
        words: what it is, for the axis of a figure.
        more_is_better: False where less is better.
    """

    tag: str
    words: str
    more_is_better: bool = False


COSTS = {
    "parameters": Cost("parameters", "parameters"),
    "train_tokens_per_second": Cost("train/tokens_per_second", "tokens per second of training", more_is_better=True),
    "seconds": Cost("train/seconds", "seconds of training"),
    "memory": Cost("memory/peak_mb", "memory of training in MB"),
}
"""Costs by the name that a comparison gives them."""

FILE = "speeds.json"

Above0 = Annotated[float, Range(above=0)]


@with_checked_arguments
@dataclass(frozen=True)
class ReadingCost:
    """The cost of reading the longest test item of a length once, without gradients.

    Args:
        encoding, length: of the model and of the test.
        tokens: of the item.
        tokens_per_second: in the fastest turn.
        relative_speed: how many times as fast as the baseline; None where that has no positions.
        memory_mb: the weights, and the most that is held beside them at once.
    """

    encoding: str
    length: Count
    tokens: Count
    tokens_per_second: Above0
    relative_speed: Above0 | None
    memory_mb: Above0


@with_checked_arguments
@dataclass(frozen=True)
class CaseSpeeds:
    """The costs of all encodings on a case, from one run.

    Args:
        machine: processor and threads, or GPUs.
        versions: of Python and packages, and the commit.
        baseline: of the relative speeds.
        runs: directory of the run of each encoding.
        lengths: of the test.
        costs: of each encoding at each length that it has positions for.
    """

    machine: str
    versions: Mapping[str, object]
    baseline: str
    runs: Mapping[str, str]
    lengths: Sequence[int]
    costs: Sequence[ReadingCost]

    def at(self, encoding: str, length: int) -> ReadingCost | None:
        """Return the cost of an encoding at a length; None where it was not measured."""
        return next((one for one in self.costs if (one.encoding, one.length) == (encoding, length)), None)


def kept_speeds(output: Path) -> dict[str, CaseSpeeds]:
    """Return the measured speeds that the directory of a comparison keeps, by case; {} if they are damaged."""
    try:
        return {
            str(case): CaseSpeeds(**{**node, "costs": [ReadingCost(**cost) for cost in node["costs"]]})
            for case, node in read_json(output / FILE).items()
        }
    except (ValueError, TypeError, KeyError):  # missing, or of something else
        return {}


def keep_speeds(output: Path, speeds: Mapping[str, CaseSpeeds]) -> None:
    """Write speeds by case into the directory of a comparison."""
    write_atomically(output / FILE, json.dumps({case: asdict(one) for case, one in speeds.items()}, indent=1) + "\n")

"""Tuned points: the values of hyperparameters that a tuning tries for one encoding, and the one that it chooses."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from poslab.experiments.cells import Point
from poslab.experiments.comparison import Tuning
from poslab.experiments.criteria import sign

MAX_EXTENSIONS = 2
"""Points beyond an end of a range that are tried, one after another, while the best one stays at the end."""


@dataclass(frozen=True)
class TunedPoint:
    """The choice of a tuning: the best point, the keys whose best value is at an end of their range, and all trials."""

    point: Point
    at_the_edge: Sequence[str]
    trials: Sequence[tuple[Point, float]]

    @property
    def failed(self) -> int:
        """The number of trials that diverged or failed."""
        return sum(not math.isfinite(value) for _, value in self.trials)

    @property
    def has_value(self) -> bool:
        """True unless all trials diverged or failed: the point is then the first, and nothing speaks for it."""
        return not self.trials or self.failed < len(self.trials)


def trial_value(metrics: Mapping[str, float] | None, tuning: Tuning) -> float:
    """Return the value of a trial from its metrics by tag; the worst of one that diverged or failed, which is None."""
    worst = -sign(tuning.direction) * math.inf
    value = (metrics or {}).get(f"validation/{tuning.metric}", worst)
    return worst if math.isnan(value) else value


def tuned_point(trials: Sequence[tuple[Point, float]], tuning: Tuning, encoding: str) -> TunedPoint:
    """Return the choice among the trials of an encoding with their values."""
    best, space = best_of(trials, tuning), tuning.space_of(encoding)
    return TunedPoint(best, [key for key in best if last_values(best[key], key, space[key], trials)], trials)


def at_an_end(tuned: Mapping[str, TunedPoint]) -> list[str]:
    """Return the encodings whose best value is at an end of all that were tried."""
    return [name for name, choice in tuned.items() if choice.at_the_edge and choice.has_value]


def points_of(space: Mapping[str, Sequence[Any]], count: int, seed: int) -> list[dict[str, Any]]:
    """Return that many combinations of a space, all different: the same places for spaces of the same sizes."""
    combinations = [dict(zip(space, values, strict=True)) for values in itertools.product(*space.values())]
    if count == len(combinations):
        return combinations
    chosen = np.random.default_rng(seed).permutation(len(combinations))[:count]
    return [combinations[index] for index in sorted(chosen)]


def best_of(trials: Sequence[tuple[Point, float]], tuning: Tuning) -> Point:
    """Return the point of the best trial, the first of equal ones."""
    return max(trials, key=lambda trial: sign(tuning.direction) * trial[1])[0]


def last_values(
    best: Any, key: str, values: Sequence[Any], trials: Sequence[tuple[Point, float]]
) -> tuple[float, float] | None:
    """Return the best value of a key and its neighbour if it is at an end of all that were tried; else None."""
    tried = sorted({point[key] for point, _ in trials if _is_number(point[key])})
    if len(tried) < 2 or not all(map(_is_number, values)) or best not in (tried[0], tried[-1]):
        return None
    return (tried[0], tried[1]) if best == tried[0] else (tried[-1], tried[-2])


def value_beyond(best: Any, key: str, values: Sequence[Any], trials: Sequence[tuple[Point, float]]) -> float | None:
    """Return the value beyond the best one of a key, if that is at an end of all that were tried; None if it is not.

    The step is that between the two values at the end: a factor for positive numbers, else a difference.
    """
    if (last := last_values(best, key, values, trials)) is None:
        return None
    end, neighbour = last
    value = end * end / neighbour if min(last) > 0 else 2 * end - neighbour
    if not all(isinstance(number, int) for number in values):
        return float(f"{value:.6g}")
    return round(value) if round(value) not in last else None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)

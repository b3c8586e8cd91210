"""Tuned points: the values of hyperparameters that a tuning tries for one encoding, and the one that it chooses."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from poslab.configuration.labels import is_number
from poslab.experiments.cells import Point
from poslab.experiments.comparison import Tuning
from poslab.experiments.criteria import Direction, sign

MAX_EXTENSIONS = 2
"""Times that a tuning goes on beyond an end of a range, while the best point of an encoding stays at one."""

MAX_REFINED = 1000  # most points of a space to whose combinations others, with values between its own, are added


@dataclass(frozen=True)
class TunedPoint:
    """The choice of a tuning: the best point, the keys whose best value is at an end of their range, and all trials.

    A trial is a point with its mean over the seeds of the tuning.
    """

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


def points_of(space: Mapping[str, Sequence[Any]], count: int, seed: int) -> list[Point]:
    """Return that many points of a space, all different: the same indices for spaces of the same sizes.

    If it has fewer combinations, values between its numbers follow; there are fewer points if it has no numbers.
    """
    points: list[Point] = []
    while len(points) < count:
        products = itertools.product(*space.values())
        new = [point for point in (dict(zip(space, values, strict=True)) for values in products) if point not in points]
        if not new:
            break
        missing = count - len(points)
        chosen = np.random.default_rng(seed).permutation(len(new))[:missing] if missing < len(new) else range(len(new))
        points += [new[index] for index in sorted(chosen)]
        space = {key: _refined(values) for key, values in space.items()}
    return points


def _refined(values: Sequence[Any]) -> Sequence[Any]:
    """Return numbers with the middles between neighbours; other values as they are."""
    if not all(map(is_number, values)):
        return values
    middles = (_between(first, second) for first, second in itertools.pairwise(sorted(values)))
    return sorted({*values, *(middle for middle in middles if middle is not None)})


def _between(first: float, second: float) -> float | None:
    """Return the number between two, the geometric mean of positive ones; None if they are successive integers."""
    middle = math.sqrt(first * second) if min(first, second) > 0 else (first + second) / 2
    if isinstance(first, int) and isinstance(second, int):
        return None if round(middle) in (first, second) else round(middle)
    return float(f"{middle:.6g}")


def mean_trials(runs: Iterable[tuple[Point, float]]) -> list[tuple[Point, float]]:
    """Return each point once with its mean over runs, which are of several seeds, in the order of the first."""
    by_point: dict[str, tuple[Point, list[float]]] = {}
    for point, value in runs:
        by_point.setdefault(json.dumps(dict(point), sort_keys=True), (point, []))[1].append(value)
    return [(point, sum(values) / len(values)) for point, values in by_point.values()]


def further_points(tried: Mapping[str, Sequence[tuple[Point, float]]], tuning: Tuning) -> dict[str, list[Point]]:
    """Return further points of each encoding, as many for all, so that none has more chances than another.

    There are as many as the encoding needs whose best point is at the most ends, beyond which they are. Others spend
    their points between their best values and the neighbours of these, where the gap is widest first.
    """
    beyond: list[int] = []
    points: dict[str, list[Point]] = {}
    for name, trials in tried.items():
        best, space = best_of(trials, tuning), tuning.space_of(name)
        ends = {key: value_beyond(best[key], key, space[key], trials) for key in best}
        candidates = [{**best, key: end} for key, end in ends.items() if end is not None]
        beyond.append(len(candidates))
        for key in (key for key in best if all(map(is_number, space[key]))):
            values = sorted({point[key] for point, _ in trials})
            index = values.index(best[key])
            neighbours = [*values[max(index - 1, 0) : index], *values[index + 1 : index + 2]]
            middles = [middle for value in neighbours if (middle := _between(best[key], value)) is not None]
            candidates += [{**best, key: m} for m in sorted(middles, key=lambda m: abs(m - best[key]), reverse=True)]
        known = [point for point, _ in trials]
        points[name] = [point for point in candidates if point not in known]
    count = min(max(beyond, default=0), *map(len, points.values())) if points else 0
    return {name: of_encoding[:count] for name, of_encoding in points.items()}


def expected_best(values: Sequence[float], count: int, direction: Direction) -> float:
    """Return the expected best of a number of draws from the values of trials (Dodge et al. 2019, section 3).

    Trials that failed, whose values are not finite, count as the worst of the others.
    """
    known = sign(direction) * np.array([value for value in values if math.isfinite(value)])
    ascending = np.sort(np.r_[np.full(len(values) - len(known), known.min()), known])
    below = np.arange(len(values) + 1) / len(values)
    return float(sign(direction) * (ascending * np.diff(below**count)).sum())


def best_of(trials: Sequence[tuple[Point, float]], tuning: Tuning) -> Point:
    """Return the point of the best trial, the first of equal ones."""
    return max(trials, key=lambda trial: sign(tuning.direction) * trial[1])[0]


def last_values(
    best: Any, key: str, values: Sequence[Any], trials: Sequence[tuple[Point, float]]
) -> tuple[float, float] | None:
    """Return the best value of a key and its neighbour if it is at an end of all that were tried; else None."""
    tried = sorted({point[key] for point, _ in trials if is_number(point[key])})
    if len(tried) < 2 or not all(map(is_number, values)) or best not in (tried[0], tried[-1]):
        return None
    return (tried[0], tried[1]) if best == tried[0] else (tried[-1], tried[-2])


def value_beyond(best: Any, key: str, values: Sequence[Any], trials: Sequence[tuple[Point, float]]) -> float | None:
    """Return the value beyond the best one of a key, if it is at an end of all that were tried, else None.

    It is the next of the range that no trial had, or one step beyond the range: the step between the end and the
    nearest value of the range or of a trial, a factor for positive numbers, else a difference.
    """
    if (last := last_values(best, key, values, trials)) is None:
        return None
    end, inner = last
    outer = [value for value in values if (value - end) * (end - inner) > 0]
    if outer:
        return min(outer, key=lambda value: abs(value - end))
    neighbour = min((inner, *(value for value in values if value != end)), key=lambda value: abs(value - end))
    value = end * end / neighbour if min(last) > 0 else 2 * end - neighbour
    if not all(isinstance(number, int) for number in values):
        return float(f"{value:.6g}")
    is_beyond = round(value) not in last and (round(value) > 0 or min(last) <= 0)  # no 0 below positive integers
    return round(value) if is_beyond else None

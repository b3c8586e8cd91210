"""Cells of a comparison: one case, one encoding and one seed each, and the tuning before them.

Which cells are wanted follows from the comparison and from the results so far alone, so that all workers and machines
agree, and an interrupted comparison, or one with more seeds, goes on where it was.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from poslab.comparison.comparison import NAME, Comparison, Tuning
from poslab.comparison.lengths import extra_tags

MOST_EXTENSIONS = 2
"""Points beyond an end of a range that are tried, one after another, while the best one stays at the end."""

SCORES = "scores.npz"
"""File of a run with the scores of its test items."""

EXTRA_SCORES = "extra_scores.npz"
"""File of a run with its scores by metrics beside those of its task."""

Point = Mapping[str, Any]
"""Values of tuned keys."""


@dataclass(frozen=True)
class Cell:
    """One run of a comparison, or of its tuning.

    Args:
        case, encoding, seed: of the run.
        point: values of tuned keys.
        is_trial: True for a run of the tuning, which is never a result.
        definition: number of the configuration of this case and encoding, which grows when their files change.
        lengths: of the test.
        extra: tags of the metrics that are measured beside those of its task.
        after: directory of the run that it begins with, within that of the comparison; None begins anew.
    """

    case: str
    encoding: str
    seed: int
    point: Point
    is_trial: bool
    definition: int = 1
    lengths: Sequence[int] = ()
    extra: Sequence[str] = ()
    after: str | None = None

    @property
    def identity(self) -> str:
        """Text that is equal for equal cells."""
        return json.dumps(self.as_plain_data(), sort_keys=True)

    def as_plain_data(self) -> dict[str, Any]:
        """Return its arguments, for JSON."""
        return {**vars(self), "point": dict(self.point), "lengths": list(self.lengths), "extra": list(self.extra)}

    @property
    def directory(self) -> Path:
        """Directory of its run within that of the comparison; the lengths of the test do not change it."""
        kind = "trials" if self.is_trial else "runs"
        made_of = [dict(self.point), self.definition, *([] if self.after is None else [self.after])]
        digest = hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()[:8]
        is_plain = not self.point and self.definition == 1 and self.after is None
        return Path(kind) / self.case / self.encoding / (f"seed_{self.seed}" + ("" if is_plain else f"_{digest}"))

    @property
    def label(self) -> str:
        """The cell in a few words: `addition: t5, seed 2` or `addition: t5, lr=0.001`."""
        point = ", ".join(f"{key.rpartition('.')[2]}={value}" for key, value in self.point.items())
        return f"{self.case}: {self.encoding}, {point if self.is_trial else f'seed {self.seed}'}"


@dataclass(frozen=True)
class CellResult:
    """The result of a finished cell.

    Args:
        metrics: of its run by tag, as in metrics.json.
        scores: of its test by tag, such as `bits_per_byte@1024`; empty for a trial.
        diverged: the reason why it has no scores, if its loss was no longer a number; "" if it has.
        machine: processor and threads, or the name of the GPU.
        start: hashes of the first `batch` and of the first `weights` outside the encoding.
    """

    metrics: Mapping[str, float] = field(default_factory=dict)
    scores: Mapping[str, float] = field(default_factory=dict)
    diverged: str = ""
    machine: str = ""
    start: Mapping[str, str | None] = field(default_factory=dict)


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
    def found(self) -> bool:
        """True unless all trials diverged or failed: the point is then the first, and nothing speaks for it."""
        return not self.trials or self.failed < len(self.trials)


@dataclass(frozen=True)
class CellPlan:
    """The cells that a comparison wants.

    Args:
        comparison: the comparison.
        definitions: number of the configuration of each `case/encoding`.
        lengths: of the test, by case.
        trained: the longest length of training, by case.
        impossible: values beyond the ends of tuned ranges that no run of a `case/encoding` can have, a key each.
    """

    comparison: Comparison
    definitions: Mapping[str, int]
    lengths: Mapping[str, Sequence[int]]
    trained: Mapping[str, int]
    impossible: Mapping[str, Sequence[Point]] = field(default_factory=dict)

    def wanted(self, results: Mapping[str, CellResult | None]) -> tuple[list[Cell], int]:
        """Return the wanted cells that are known, in the order of their training, and the number of those that are not.

        A cell of the comparison is known once its encoding is tuned, and the run that it begins with is finished. Those
        that are `blocked` are not wanted. Cells go round robin: a seed of all encodings comes before the next seed of
        any.

        Args:
            results: of the finished cells by identity; None of one that failed for good.
        """
        pairs = self.comparison.pairs
        trials = {pair: list(self._trials(*pair, results)) for pair in pairs}
        known = [cell for row in itertools.zip_longest(*trials.values()) for cell in row if cell is not None]
        unknown = 0
        tuned = {pair: self.tuned(*pair, results) for pair in pairs}
        for seed in self.comparison.seed_list:
            for pair in pairs:
                choice = tuned[pair]
                cell = None if choice is None else self._begun(*pair, seed, choice.point, results)
                if cell is not None:
                    known.append(cell)
                elif not self._is_blocked(*pair, seed, results):
                    unknown += 1
        return known, unknown

    def blocked(self, results: Mapping[str, CellResult | None]) -> list[Cell]:
        """Return the runs, not tuned, that cannot begin: what they or their tuning begin with diverged or failed."""
        every = ((*pair, seed) for seed in self.comparison.seed_list for pair in self.comparison.pairs)
        return [self.cell(*one, {}) for one in every if self._is_blocked(*one, results)]

    def _is_blocked(self, case: str, encoding: str, seed: int, results: Mapping[str, CellResult | None]) -> bool:
        earlier = self.comparison.earlier_pair(case, encoding)
        if earlier is None:
            return False
        of_tuning = [] if self.comparison.tuning_of(case) is None else self.comparison.seed_list[:1]
        return any(self._is_lost(earlier, one, results) for one in (seed, *of_tuning))

    def _is_lost(self, pair: tuple[str, str], seed: int, results: Mapping[str, CellResult | None]) -> bool:
        """Return whether a run diverged or failed, or is blocked."""
        if self._is_blocked(*pair, seed, results):
            return True
        run = self._run(pair, seed, results)
        return run is not None and run.identity in results and not _has_ended_well(results[run.identity])

    def cell(self, case: str, encoding: str, seed: int, point: Point, after: str | None = None) -> Cell:
        """Return a cell of the comparison."""
        definition = self.definitions[f"{case}/{encoding}"]
        extra = extra_tags(self.comparison, case, self.trained[case])
        return Cell(case, encoding, seed, point, False, definition, tuple(self.lengths[case]), tuple(extra), after)

    def _begun(
        self, case: str, encoding: str, seed: int, point: Point, results: Mapping[str, CellResult | None]
    ) -> Cell | None:
        """Return a cell of the comparison with the run that it begins with; None unless that has ended well."""
        earlier = self.comparison.earlier_pair(case, encoding)
        if earlier is None:
            return self.cell(case, encoding, seed, point)
        after = self._earlier(earlier, seed, results)
        return None if after is None else self.cell(case, encoding, seed, point, after)

    def _earlier(self, pair: tuple[str, str], seed: int, results: Mapping[str, CellResult | None]) -> str | None:
        """Return the directory of a run that has ended well; None of any other."""
        run = self._run(pair, seed, results)
        is_there = run is not None and _has_ended_well(results.get(run.identity))
        return run.directory.as_posix() if run is not None and is_there else None

    def _run(self, pair: tuple[str, str], seed: int, results: Mapping[str, CellResult | None]) -> Cell | None:
        """Return a run of the comparison; None while it is not known."""
        choice = self.tuned(*pair, results)
        return None if choice is None else self._begun(*pair, seed, choice.point, results)

    def tuned(self, case: str, encoding: str, results: Mapping[str, CellResult | None]) -> TunedPoint | None:
        """Return the choice of a tuning; None while a trial is missing."""
        tuning = self.comparison.tuning_of(case)
        if tuning is None:
            return TunedPoint({}, (), ())
        cells = list(self._trials(case, encoding, results))
        if not cells or any(cell.identity not in results for cell in cells):
            return None
        trials = [(cell.point, _value(results[cell.identity], tuning)) for cell in cells]
        best, _ = _best(trials, tuning)
        space = tuning.space_of(encoding)
        return TunedPoint(best, [key for key in best if _last_values(best[key], key, space[key], trials)], trials)

    def is_beyond(self, cell: Cell) -> bool:
        """Return whether a cell is a trial beyond an end of its range."""
        tuning = self.comparison.tuning_of(cell.case) if cell.is_trial else None
        space = {} if tuning is None else tuning.space_of(cell.encoding)
        return any(key in space and value not in space[key] for key, value in cell.point.items())

    def _trials(self, case: str, encoding: str, results: Mapping[str, CellResult | None]) -> Iterator[Cell]:
        """Yield the trials of a tuning: those of its space, and once these are finished, those beyond its ends.

        There are none unless the run that they begin with has ended well.
        """
        tuning, after = self.comparison.tuning_of(case), None
        if tuning is None:
            return
        if (earlier := self.comparison.earlier_pair(case, encoding)) is not None:
            after = self._earlier(earlier, self.comparison.seed_list[0], results)
            if after is None:
                return
        definition, space = self.definitions[f"{case}/{encoding}"], tuning.space_of(encoding)
        points = _points(space, tuning.trials_of(encoding), tuning.seed)
        done: list[tuple[Point, float]] = []
        for _ in range(1 + MOST_EXTENSIONS):
            cells = [Cell(case, encoding, tuning.seed, point, True, definition, after=after) for point in points]
            yield from cells
            if any(cell.identity not in results for cell in cells):
                return
            done += [(cell.point, _value(results[cell.identity], tuning)) for cell in cells]
            best, _ = _best(done, tuning)
            ends = {key: _beyond(best[key], key, space[key], done) for key in best}
            refused = self.impossible.get(f"{case}/{encoding}", ())
            points = [{**best, key: end} for key, end in ends.items() if end is not None and {key: end} not in refused]
            if not points:
                return


def beyond_ends(tuning: Tuning, encoding: str) -> Iterator[tuple[str, float]]:
    """Yield each key with the values beyond the ends of its range to which the tuning of an encoding may come."""
    space = tuning.space_of(encoding)
    points = _points(space, tuning.trials_of(encoding), tuning.seed)
    for key, values in space.items():
        for first_or_last in (0, -1):
            tried = [({key: point[key]}, 0.0) for point in points]
            for _ in range(MOST_EXTENSIONS):
                numbers = sorted(point[key] for point, _ in tried if _is_number(point[key]))
                end = _beyond(numbers[first_or_last], key, values, tried) if numbers else None
                if end is not None:
                    yield key, end
                    tried.append(({key: end}, 0.0))


def _points(space: Mapping[str, Sequence[Any]], count: int, seed: int) -> list[dict[str, Any]]:
    """Return that many combinations of a space, all different: the same places for spaces of the same sizes."""
    combinations = [dict(zip(space, values, strict=True)) for values in itertools.product(*space.values())]
    if count == len(combinations):
        return combinations
    chosen = np.random.default_rng(seed).permutation(len(combinations))[:count]
    return [combinations[place] for place in sorted(chosen)]


def _has_ended_well(result: CellResult | None) -> bool:
    """Return whether a run has neither failed nor diverged, by its result; None of one that failed or is not there."""
    return result is not None and not result.diverged


def _value(result: CellResult | None, tuning: Tuning) -> float:
    """Return the value of a trial; the worst for one that diverged or failed."""
    worst = float("inf") if tuning.direction == "minimize" else -float("inf")
    value = worst if result is None or result.diverged else result.metrics.get(f"validation/{tuning.metric}", worst)
    return value if value == value else worst


def _best(trials: Sequence[tuple[Point, float]], tuning: Tuning) -> tuple[Point, float]:
    """Return the best trial, the first of equal ones."""
    sign = 1 if tuning.direction == "minimize" else -1
    return min(trials, key=lambda trial: sign * trial[1])


def _last_values(
    best: Any, key: str, values: Sequence[Any], trials: Sequence[tuple[Point, float]]
) -> tuple[float, float] | None:
    """Return the best value of a key and its neighbour if it is at an end of all that were tried; else None."""
    tried = sorted({point[key] for point, _ in trials if _is_number(point[key])})
    if len(tried) < 2 or not all(map(_is_number, values)) or best not in (tried[0], tried[-1]):
        return None
    return (tried[0], tried[1]) if best == tried[0] else (tried[-1], tried[-2])


def _beyond(best: Any, key: str, values: Sequence[Any], trials: Sequence[tuple[Point, float]]) -> float | None:
    """Return the value beyond the best one of a key, if that is at an end of all that were tried; None if it is not.

    The step is that between the two values at the end: a factor for positive numbers, else a difference.
    """
    if (last := _last_values(best, key, values, trials)) is None:
        return None
    end, neighbour = last
    value = end * end / neighbour if min(last) > 0 else 2 * end - neighbour
    if not all(isinstance(one, int) for one in values):
        return float(f"{value:.6g}")
    return round(value) if round(value) not in last else None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def cell_of(node: Any) -> Cell:
    """Return the cell of plain data, which a database may have.

    Raises:
        ValueError: for anything that is not a cell.
    """
    try:
        cell = Cell(**{**node, "lengths": tuple(node["lengths"]), "extra": tuple(node.get("extra", ()))})
        names_fit = all(re.fullmatch(NAME, name) for name in (cell.case, cell.encoding))
        is_run = cell.after is None or re.fullmatch(rf"runs/{NAME}/{NAME}/{NAME}", cell.after)
        integers = (cell.seed, cell.definition, *cell.lengths)
        are_tags = all(isinstance(tag, str) for tag in cell.extra)
        if not (
            names_fit
            and are_tags
            and is_run
            and all(type(n) is int for n in integers)
            and isinstance(cell.point, Mapping)
        ):
            raise ValueError
    except (TypeError, KeyError, ValueError) as error:
        raise ValueError(f"the storage holds something else than a cell: {str(node)[:80]}") from error
    return cell


def result_of(node: Any) -> CellResult:
    """Return the result of plain data, which a database may have.

    Raises:
        ValueError: for anything that is not a result.
    """
    try:
        result = CellResult(**node)
        numbers = [*result.metrics.values(), *result.scores.values()]
        texts = (result.diverged, result.machine)
        if not all(type(n) in (int, float) for n in numbers) or not all(isinstance(text, str) for text in texts):
            raise ValueError
        starts = result.start.values()  # AttributeError of anything but a mapping
        if not all(one is None or isinstance(one, str) for one in starts):
            raise ValueError
    except (TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"the storage holds something else than a result: {str(node)[:80]}") from error
    return result

"""Plan of a comparison: the cells that it wants, and the tuning before them.

Which cells are wanted follows from the comparison and from the results so far alone, so that all workers and machines
agree, and an interrupted comparison, or one with more seeds, resumes where it stopped.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from poslab.experiments.cells import Cell, CellResult, Finished, Point
from poslab.experiments.comparison import Comparison, Tuning
from poslab.experiments.metrics import extra_tags
from poslab.experiments.tuned_points import (
    MAX_EXTENSIONS,
    TunedPoint,
    best_of,
    points_of,
    trial_value,
    tuned_point,
    value_beyond,
)


@dataclass(frozen=True)
class CellPlan:
    """The cells that a comparison wants.

    Args:
        comparison: the comparison.
        definitions: digest of the configuration of each `case/encoding`.
        lengths: of the test, by case.
        trained: the longest length of training, by case.
    """

    comparison: Comparison
    definitions: Mapping[str, str]
    lengths: Mapping[str, Sequence[int]]
    trained: Mapping[str, int]

    def wanted(self, results: Finished) -> tuple[list[Cell], int]:
        """Return the wanted cells that are known, in the order of their training, and the number of those that are not.

        A cell of the comparison is known once its encoding is tuned, and the run that it begins with is finished. Those
        that are `blocked` are not wanted. Cells go round robin: a seed of all encodings comes before the next seed of
        any.
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

    def blocked(self, results: Finished) -> list[Cell]:
        """Return the runs, not tuned, that cannot begin: what they or their tuning begin with diverged or failed."""
        every = ((*pair, seed) for seed in self.comparison.seed_list for pair in self.comparison.pairs)
        return [self.cell(*run, {}) for run in every if self._is_blocked(*run, results)]

    def _is_blocked(self, case: str, encoding: str, seed: int, results: Finished) -> bool:
        earlier = self.comparison.earlier_pair(case, encoding)
        if earlier is None:
            return False
        of_tuning = [] if self.comparison.tuning_of(case) is None else self.comparison.seed_list[:1]
        return any(self._is_lost(earlier, begun, results) for begun in (seed, *of_tuning))

    def _is_lost(self, pair: tuple[str, str], seed: int, results: Finished) -> bool:
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

    def _begun(self, case: str, encoding: str, seed: int, point: Point, results: Finished) -> Cell | None:
        """Return a cell of the comparison with the run that it begins with; None unless that has ended well."""
        earlier = self.comparison.earlier_pair(case, encoding)
        if earlier is None:
            return self.cell(case, encoding, seed, point)
        after = self._earlier(earlier, seed, results)
        return None if after is None else self.cell(case, encoding, seed, point, after)

    def _earlier(self, pair: tuple[str, str], seed: int, results: Finished) -> str | None:
        """Return the directory of a run that has ended well; None of any other."""
        run = self._run(pair, seed, results)
        is_there = run is not None and _has_ended_well(results.get(run.identity))
        return run.directory.as_posix() if run is not None and is_there else None

    def _run(self, pair: tuple[str, str], seed: int, results: Finished) -> Cell | None:
        """Return a run of the comparison; None while it is not known."""
        choice = self.tuned(*pair, results)
        return None if choice is None else self._begun(*pair, seed, choice.point, results)

    def tuned(self, case: str, encoding: str, results: Finished) -> TunedPoint | None:
        """Return the choice of a tuning; None while a trial is missing."""
        tuning = self.comparison.tuning_of(case)
        if tuning is None:
            return TunedPoint({}, (), ())
        cells = list(self._trials(case, encoding, results))
        if not cells or any(cell.identity not in results for cell in cells):
            return None
        trials = [(cell.point, _value(results[cell.identity], tuning)) for cell in cells]
        return tuned_point(trials, tuning, encoding)

    def _trials(self, case: str, encoding: str, results: Finished) -> Iterator[Cell]:
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
        points = points_of(space, tuning.trials_of(encoding), tuning.seed)
        done: list[tuple[Point, float]] = []
        for _ in range(1 + MAX_EXTENSIONS):
            cells = [Cell(case, encoding, tuning.seed, point, True, definition, after=after) for point in points]
            yield from cells
            if any(cell.identity not in results for cell in cells):
                return
            done += [(cell.point, _value(results[cell.identity], tuning)) for cell in cells]
            best = best_of(done, tuning)
            ends = {key: value_beyond(best[key], key, space[key], done) for key in best}
            points = [{**best, key: end} for key, end in ends.items() if end is not None]
            if not points:
                return


def _has_ended_well(result: CellResult | None) -> bool:
    """Return whether a run has neither failed nor diverged, by its result; None of one that failed or is not there."""
    return result is not None and not result.diverged


def _value(result: CellResult | None, tuning: Tuning) -> float:
    return trial_value(result.metrics if result is not None and not result.diverged else None, tuning)

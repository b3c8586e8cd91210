"""Plan of a comparison: the cells that it wants, and the tuning before them.

Which cells are wanted follows only from the comparison and from the results so far, so that all workers and machines
agree, and an interrupted comparison, or one with more seeds, resumes where it stopped.
"""

from __future__ import annotations

import itertools
import json
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from poslab.experiments import tuned_points
from poslab.experiments.cells import Cell, CellResult, Finished, Point, cell_of, result_of, result_of_row
from poslab.experiments.comparison import Comparison, Tuning
from poslab.experiments.comparison_file import carried
from poslab.experiments.jobs import STUDY, Attempt, DatabaseLedger, Failure, FolderLedger, Job, Jobs, Ledger, Record
from poslab.experiments.metrics import extra_tags
from poslab.experiments.storage import open_storage
from poslab.experiments.storage_url import DamagedStorageError
from poslab.experiments.tables import RunResult


@dataclass(frozen=True)
class CellPlan:
    """The cells that a comparison wants."""

    comparison: Comparison
    definitions: Mapping[str, str]  # digest of the configuration of each `case/encoding`
    lengths: Mapping[str, Sequence[int]]  # of the test, by case
    trained: Mapping[str, int]  # the longest training length, by case

    def wanted(self, results: Finished) -> tuple[list[Cell], int]:
        """Return the wanted cells that are known, in the order of their training, and the number of those that are not.

        A cell of the comparison is known once its encoding is tuned, and the run that it starts from is finished. Those
        that are `blocked` are not wanted. Cells go round robin: a seed of all encodings comes before the next seed of
        any.
        """
        pairs = self.comparison.pairs
        trials = {case: self._trials(case, results) for case in self.comparison.cases}
        of_pairs = [trials[case].get(encoding, []) for case, encoding in pairs]
        known = [cell for row in itertools.zip_longest(*of_pairs) for cell in row if cell is not None]
        unknown = 0
        tuned = {(case, name): self._tuned(case, name, trials[case], results) for case, name in pairs}
        seeds = {case: self.comparison.seeds_of(case) for case in self.comparison.cases}
        for seed in dict.fromkeys(itertools.chain(*seeds.values())):
            for pair in (pair for pair in pairs if seed in seeds[pair[0]]):
                choice = tuned[pair]
                cell = None if choice is None else self._begun(*pair, seed, choice.point, results)
                if cell is not None:
                    known.append(cell)
                elif not self._is_blocked(*pair, seed, results):
                    unknown += 1
        return known, unknown

    def blocked(self, results: Finished) -> list[Cell]:
        """Return the runs, not tuned, that cannot begin: what they or their tuning start from diverged or failed."""
        every = ((*pair, seed) for pair in self.comparison.pairs for seed in self.comparison.seeds_of(pair[0]))
        return [self.cell(*run, {}) for run in every if self._is_blocked(*run, results)]

    def _is_blocked(self, case: str, encoding: str, seed: int, results: Finished) -> bool:
        earlier = self.comparison.earlier_pair(case, encoding)
        if earlier is None:
            return False
        of_tuning = [] if self.comparison.tuning_of(case) is None else self.comparison.seeds_of(case)[:1]
        return any(self._is_lost(earlier, begun, results) for begun in (seed, *of_tuning))

    def _is_lost(self, pair: tuple[str, str], seed: int, results: Finished) -> bool:
        """Return whether a run diverged or failed, or is blocked."""
        if self._is_blocked(*pair, seed, results):
            return True
        run = self._run(pair, seed, results)
        return run is not None and run.identity in results and not _has_ended_well(results[run.identity])

    def cell(self, case: str, encoding: str, seed: int, point: Point, after: str | None = None) -> Cell:
        definition = self.definitions[f"{case}/{encoding}"]
        extra = extra_tags(self.comparison, case, self.trained[case])
        return Cell(case, encoding, seed, point, False, definition, tuple(self.lengths[case]), tuple(extra), after)

    def _begun(self, case: str, encoding: str, seed: int, point: Point, results: Finished) -> Cell | None:
        """Return a cell of the comparison with the run that it starts from; None unless that has ended well."""
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

    def tuned(self, case: str, encoding: str, results: Finished) -> tuned_points.TunedPoint | None:
        """Return the choice of a tuning; None while a trial is missing."""
        return self._tuned(case, encoding, self._trials(case, results), results)

    def _tuned(
        self, case: str, encoding: str, trials: Mapping[str, Sequence[Cell]], results: Finished
    ) -> tuned_points.TunedPoint | None:
        tuning, source = self.comparison.tuning_of(case), self.comparison.all_cases[case].tuned_as
        if source is not None:
            choice = self.tuned(source, encoding, results)
            return choice and tuned_points.TunedPoint(carried(self.comparison, choice.point, source, case), (), ())
        if tuning is None:
            return tuned_points.TunedPoint({}, (), ())
        of_all = [cell for cells in trials.values() for cell in cells]
        if encoding not in trials or not all(trials.values()) or any(c.identity not in results for c in of_all):
            return None
        return tuned_points.tuned_point(_tried(trials[encoding], results, tuning), tuning, encoding)

    def _trials(self, case: str, results: Finished) -> dict[str, list[Cell]]:
        """Return the trials of each encoding: the trials of its space, and once all are finished, as many further ones.

        An encoding has none until the run that they start from has ended well, and is left out if that never will.
        """
        tuning, seed = self.comparison.tuning_of(case), self.comparison.seeds_of(case)[0]
        if tuning is None:
            return {}
        trials: dict[str, list[Cell]] = {}
        starts: dict[str, str | None] = {}
        for encoding in self.comparison.encodings_of(case):
            earlier = self.comparison.earlier_pair(case, encoding)
            after = None if earlier is None else self._earlier(earlier, seed, results)
            if earlier is None or after is not None:
                starts[encoding] = after
            if encoding in starts or not self._is_blocked(case, encoding, seed, results):
                trials[encoding] = []
        points = {
            e: tuned_points.points_of(tuning.space_of(e), tuning.trials_of(e), tuning.seed_list[0]) for e in starts
        }
        for _ in range(1 + tuned_points.MAX_EXTENSIONS):
            for encoding, after in starts.items():
                definition = self.definitions[f"{case}/{encoding}"]
                trials[encoding] += [
                    Cell(case, encoding, tuning_seed, point, True, definition, after=after)
                    for point in points[encoding]
                    for tuning_seed in tuning.seed_list
                ]
            if not all(trials.values()) or any(c.identity not in results for cells in trials.values() for c in cells):
                break
            points = tuned_points.further_points(
                {e: _tried(cells, results, tuning) for e, cells in trials.items()}, tuning
            )
        return trials


def _tried(cells: Sequence[Cell], results: Finished, tuning: Tuning) -> list[tuple[Point, float]]:
    """Return the points of finished trials with their values."""
    ended = [(cell.point, results[cell.identity]) for cell in cells]
    metrics = [(point, None if result is None or result.diverged else result.metrics) for point, result in ended]
    return tuned_points.mean_trials((point, tuned_points.trial_value(known, tuning)) for point, known in metrics)


def _has_ended_well(result: CellResult | None) -> bool:
    """Return whether a run has neither failed nor diverged, by its result; None of one that failed or is not there."""
    return result is not None and not result.diverged


class ComparisonJobs(Jobs[CellResult]):
    """The cells of a comparison, each a job whose key is the cell's identity."""

    def __init__(self, plan: CellPlan, ledger: Ledger) -> None:
        super().__init__(ledger, plan.comparison.lost_after)
        self.plan = plan
        self._planned: tuple[Finished, tuple[list[str], int]] | None = None

    def wanted(self, records: Mapping[str, Record]) -> tuple[list[str], int]:
        results = self._results(records)
        if self._planned is None or self._planned[0] != results:  # planning hundreds of cells takes a second
            cells, unknown = self.plan.wanted(results)
            self._planned = results, ([cell.identity for cell in cells], unknown)
        return self._planned[1]

    def enter(self, rows: Iterable[RunResult]) -> None:
        """Enter the runs of tables that are wanted and whose records are not here, such as in a fresh clone."""
        known = {run.identity: run for run in rows if run.status != "blocked"}
        with self._changing() as records:
            while new := [key for key in self.wanted(records)[0] if key in known and key not in records]:
                for key in new:
                    run, lost = known[key], Failure("it failed before its table was written", can_pass=False)
                    is_lost = run.status == "failed"
                    outcome = None if is_lost else asdict(result_of_row(run))
                    records[key] = Record([Attempt("", failure=lost)] if is_lost else [], outcome=outcome)

    def cell_in(self, directory: str) -> Cell:
        """Return the cell that was taken whose run has a directory, within the comparison's."""
        return next(cell for cell in map(cell_of_key, self.records()) if cell.directory.as_posix() == directory)

    def directory_of(self, key: str) -> Path:
        return Path(self.plan.comparison.output) / cell_of_key(key).directory

    def as_plain_data(self, job: Job, result: CellResult) -> Mapping[str, Any]:
        return asdict(result)

    def results(self) -> Finished:
        return self._results(self.records())

    def _results(self, records: Mapping[str, Record]) -> Finished:
        return {
            key: None if record.outcome is None else result_of(record.outcome)
            for key, record in records.items()
            if self.is_finished(key, record)
        }


def cell_of_key(key: str) -> Cell:
    """Return the cell of a job; DamagedStorageError for a job of something else."""
    try:
        node = json.loads(key)
    except (ValueError, RecursionError) as error:
        raise DamagedStorageError(f"contains something else than a cell: {key[:80]}") from error
    return cell_of(node)


def ledger_of(comparison: Comparison) -> Ledger:
    """Return the records of a comparison: in its run directories, or in a database, which must be reachable."""
    if comparison.storage is not None:
        return DatabaseLedger(open_storage(comparison).engine, comparison.name)
    output = Path(comparison.output)
    return FolderLedger(output, lambda key: output / cell_of_key(key).directory)


def identity_of(ledger: Ledger, comparison: Comparison) -> str:
    """Return the identity of a comparison, which its records keep; ValueError if they are of a sweep."""
    with ledger.changing() as records:
        known = records.setdefault(STUDY, {"id": secrets.token_hex(8), "kind": "comparison"})
        if not isinstance(known, dict) or not isinstance(known.get("id"), str):
            raise DamagedStorageError("is damaged: it lacks what the comparison was started with")
        if known.get("kind") != "comparison":
            raise ValueError(
                f"name={comparison.name}: the storage has a sweep of that name: give this comparison another name"
            )
        return known["id"]

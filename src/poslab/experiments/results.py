"""Results of a comparison: the runs that are finished, and what is known of the differences between encodings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from poslab.evaluation.scores.items import ItemScores, MeasuredRun
from poslab.experiments.cells import Cell, CellResult, Finished
from poslab.experiments.comparison import Comparison
from poslab.experiments.costs import COSTS
from poslab.experiments.criteria import Criterion
from poslab.experiments.direction import sign
from poslab.experiments.items import measured_run, rows_of_items
from poslab.experiments.metrics import at_lengths, is_share, scored_lengths, tag_of, value
from poslab.experiments.plan import CellPlan
from poslab.experiments.reading_costs import CaseSpeeds
from poslab.experiments.statistics.difference import MIN_SEEDS, Scores
from poslab.experiments.statistics.verdict import Verdict, verdicts
from poslab.experiments.tuned_points import TunedPoint
from poslab.tasks.task import Task


@dataclass(frozen=True)
class Results:
    """Results of a comparison at one moment.

    Args:
        plan: of its cells.
        finished: results of its cells.
        tasks: class of the task, by case.
        places: directories of runs by the identity of the cell, of those that are not in that of the comparison.
        speeds: measured at each length of the test, by case.
        splits: version of the present split of the data, by case.
    """

    plan: CellPlan
    finished: Finished
    tasks: Mapping[str, type[Task]]
    places: Mapping[str, Path] = field(default_factory=dict)
    speeds: Mapping[str, CaseSpeeds] = field(default_factory=dict)
    splits: Mapping[str, int] = field(default_factory=dict)
    _measured: dict[str, MeasuredRun | None] = field(default_factory=dict, init=False, repr=False)
    _scores: dict[tuple[str, Criterion], dict[str, Scores]] = field(default_factory=dict, init=False, repr=False)
    _positioned: dict[tuple[str, Criterion], dict[str, tuple[int, int]]] = field(
        default_factory=dict, init=False, repr=False
    )
    _verdicts: dict[tuple[str, Criterion, str, bool], dict[str, Verdict]] = field(
        default_factory=dict, init=False, repr=False
    )

    @property
    def comparison(self) -> Comparison:
        """The comparison."""
        return self.plan.comparison

    @cached_property
    def wanted(self) -> list[Cell]:
        """The runs and trials that are known, finished or not."""
        known, _ = self.plan.wanted(self.finished)
        return known

    @cached_property
    def cells(self) -> list[tuple[Cell, CellResult]]:
        """The finished runs of the comparison, trials and failures aside."""
        found = ((cell, self.finished.get(cell.identity)) for cell in self.wanted if not cell.is_trial)
        return [(cell, result) for cell, result in found if result is not None]

    @cached_property
    def of_earlier_splits(self) -> list[str]:
        """The cases with finished runs or trials on another version of the split than their data has now."""
        known = ((cell.case, self.finished.get(cell.identity)) for cell in self.wanted)
        versions = {(case, result.start.get("split", "1")) for case, result in known if result is not None}
        old = {case for case, version in versions if version != str(self.splits.get(case, 1))}
        return [case for case in self.comparison.cases if case in old]

    @cached_property
    def failed(self) -> list[Cell]:
        """The runs that failed for good."""
        return [c for c in self.wanted if c.identity in self.finished and self.finished[c.identity] is None]

    @cached_property
    def blocked(self) -> list[Cell]:
        """The runs that cannot begin, since those that they begin with diverged or failed."""
        return self.plan.blocked(self.finished)

    def place(self, cell: Cell) -> Path:
        """Return the directory of a run."""
        return self.places.get(cell.identity, Path(self.comparison.output) / cell.directory)

    @cached_property
    def _by_pair(self) -> dict[tuple[str, str], dict[int, tuple[Cell, CellResult]]]:
        """The finished runs by case and encoding, and by seed."""
        found: dict[tuple[str, str], dict[int, tuple[Cell, CellResult]]] = {}
        for cell, result in self.cells:
            found.setdefault((cell.case, cell.encoding), {})[cell.seed] = (cell, result)
        return found

    def runs(self, case: str, encoding: str) -> dict[int, tuple[Cell, CellResult]]:
        """Return the finished runs of an encoding on a case, by seed."""
        return self._by_pair.get((case, encoding), {})

    def tuned(self, case: str) -> dict[str, TunedPoint]:
        """Return the choices of the tuning on a case, by encoding, as far as it is finished."""
        found = {name: self.plan.tuned(case, name, self.finished) for name in self.comparison.encodings_of(case)}
        return {name: choice for name, choice in found.items() if choice is not None}

    def encodings(self, case: str) -> list[str]:
        """Return the encodings with a finished run on a case."""
        return [name for name in self.comparison.encodings_of(case) if self.runs(case, name)]

    def without_runs(self, case: str) -> list[str]:
        """Return the encodings of a case without a finished run."""
        return [name for name in self.comparison.encodings_of(case) if not self.runs(case, name)]

    def has_trained(self, case: str) -> bool:
        """Return whether a run of a case has made a step; with `trainer.max_steps=0` none has."""
        runs = (result for name in self.encodings(case) for _, result in self.runs(case, name).values())
        return any(result.metrics.get("steps", 1) for result in runs)

    def shared_seeds(self, case: str) -> list[int]:
        """Return the seeds of which every encoding with a run on a case has one."""
        seeds = [set(self.runs(case, name)) for name in self.encodings(case)]
        return sorted(set.intersection(*seeds)) if seeds else []

    def is_comparable(self, case: str) -> bool:
        """Return whether a seed of all encodings with a run on a case is finished.

        Runs that exist already need not share one.
        """
        return bool(self.encodings(case) if self.places else self.shared_seeds(case))

    def values(self, case: str, criterion: Criterion, encoding: str) -> dict[int, float]:
        """Return the value of each seed; NaN of one that diverged, or has no score at a length."""
        trained = self.plan.trained[case]
        return {
            seed: value(criterion, result.scores, cell.lengths, trained)
            for seed, (cell, result) in self.runs(case, encoding).items()
        }

    def mean(self, case: str, criterion: Criterion, encoding: str) -> float:
        """Return the mean value over the seeds that did not diverge; NaN if there are none."""
        known = self.known_values(case, criterion, encoding)
        return sum(known) / len(known) if known else np.nan

    def known_values(self, case: str, criterion: Criterion, encoding: str) -> list[float]:
        """Return the values of the seeds that did not diverge."""
        return [number for number in self.values(case, criterion, encoding).values() if np.isfinite(number)]

    def cost(self, case: str, encoding: str, name: str) -> float:
        """Return the mean cost of the runs of an encoding on a case, by its name in `COSTS`; NaN where none has it."""
        tag = COSTS[name].tag
        values = [result.metrics[tag] for _, result in self.runs(case, encoding).values() if tag in result.metrics]
        return sum(values) / len(values) if values else np.nan

    def positioned_items(self, case: str, criterion: Criterion) -> dict[str, tuple[int, int]]:
        """Return how many test items each encoding has positions for, of those that any has; {} if it is unknown."""
        if (case, criterion) not in self._positioned:
            self._positioned[case, criterion] = self._count_positioned(case, criterion)
        return self._positioned[case, criterion]

    def _count_positioned(self, case: str, criterion: Criterion) -> dict[str, tuple[int, int]]:
        firsts = {
            encoding: next((run for run in self.runs(case, encoding).values() if not run[1].diverged), None)
            for encoding in self.reaching(case, criterion)
        }
        counted = {}
        for encoding, run in firsts.items():
            if run is not None:
                if (items := self._items(criterion, *run)) is None:
                    return {}
                counted[encoding] = np.concatenate([one.counts > 0 for one in items])
        if not counted:
            return {}
        total = int(np.any(list(counted.values()), axis=0).sum())
        return {encoding: (int(own.sum()), total) for encoding, own in counted.items()}

    def reaching(self, case: str, criterion: Criterion) -> list[str]:
        """Return the encodings that have positions at the lengths of a metric; all runs that diverged may have them."""
        return [
            encoding
            for encoding in self.encodings(case)
            if all(
                result.diverged or not self._has_no_score(criterion, cell, result)
                for cell, result in self.runs(case, encoding).values()
            )
        ]

    def _has_no_score(self, criterion: Criterion, cell: Cell, result: CellResult) -> bool:
        lengths = self._lengths(criterion, cell, result)
        return any(tag_of(criterion.name, length) not in result.scores for length in lengths)

    def _lengths(self, criterion: Criterion, cell: Cell, result: CellResult) -> list[int | None]:
        return scored_lengths(criterion, result.scores, cell.lengths, self.plan.trained[cell.case])

    def scores(self, case: str, criterion: Criterion) -> dict[str, Scores]:
        """Return the scores of each encoding that reaches the lengths of a metric, for all its seeds.

        There are none until `is_comparable`. They are those of test items where all runs have them, on the items that
        all have positions for.
        """
        if (case, criterion) not in self._scores:
            self._scores[case, criterion] = self._read_scores(case, criterion)
        return self._scores[case, criterion]

    def _read_scores(self, case: str, criterion: Criterion) -> dict[str, Scores]:
        if not self.is_comparable(case):
            return {}
        seeds = {encoding: sorted(self.runs(case, encoding)) for encoding in self.reaching(case, criterion)}
        by_item = self._by_item(case, criterion, seeds)
        if by_item is not None:
            return {encoding: Scores.of_items(items, seeds[encoding]) for encoding, items in by_item.items()}
        values = {encoding: self.values(case, criterion, encoding) for encoding in seeds}
        return {
            encoding: Scores(np.array([values[encoding][seed] for seed in own]), seeds=own)
            for encoding, own in seeds.items()
        }

    def _by_item(
        self, case: str, criterion: Criterion, seeds: Mapping[str, Sequence[int]]
    ) -> dict[str, np.ndarray] | None:
        """Return the scores of test items, (S, I), by encoding, NaN of a run that diverged; None where a run has none.

        Raises:
            ValueError: if runs were tested on different items.
        """
        every = {(encoding, seed): self.runs(case, encoding)[seed] for encoding, own in seeds.items() for seed in own}
        found = {key: self._items(criterion, *run) for key, run in every.items() if not run[1].diverged}
        known = {key: items for key, items in found.items() if items is not None}
        if not known or len(known) < len(found):
            return None
        rows = rows_of_items(list(known.values()), self.tasks[case].aggregate_lengths)
        if rows is None:
            return None
        of_run, lost = dict(zip(known, rows, strict=True)), np.full_like(rows[0], np.nan)
        return {
            encoding: np.stack([of_run.get((encoding, seed), lost) for seed in own]) for encoding, own in seeds.items()
        }

    def measured(self, cell: Cell) -> MeasuredRun | None:
        """Return the scores of a run on each test item; None if they are damaged, or on a disk that is not shared.

        Scores whose values are not those of the result are of other weights, or were changed, and are not read either.
        A file is read once.
        """
        if cell.identity not in self._measured:
            self._measured[cell.identity] = measured_run(self.place(cell), cell, self.finished[cell.identity])
        return self._measured[cell.identity]

    def _items(self, criterion: Criterion, cell: Cell, result: CellResult) -> list[ItemScores] | None:
        """Return the scores of test items of a run at each length of a metric; None where there are none here."""
        lengths, measured = self._lengths(criterion, cell, result), self.measured(cell)
        if not lengths or measured is None:
            return None
        found = [measured.scores.get((criterion.name, length)) for length in lengths]
        return None if None in found else found  # type: ignore[return-value]

    def learned(self, case: str, encoding: str) -> tuple[int, int]:
        """Return how many seeds of an encoding pass the gate of a case, and how many there are."""
        gate = self.comparison.gate_of(case)
        runs = self.runs(case, encoding)
        if gate is None:
            return len(runs), len(runs)
        values = self.values(case, gate.criterion, encoding)
        return sum(gate.passes(v) for v in values.values()), len(values)

    def not_learned(self, case: str) -> list[str]:
        """Return the encodings of which no more than half of the seeds pass the gate."""
        passed = {name: self.learned(case, name) for name in self.encodings(case)}
        return [name for name, (count, total) in passed.items() if 2 * count <= total]

    def verdicts(self, case: str, criterion: Criterion, baseline: str, all_pairs: bool = False) -> dict[str, Verdict]:
        """Return the verdict on each encoding beside a baseline; none if the baseline has no run.

        A baseline that is chosen by its scores needs `all_pairs`, as of `statistics.verdict.verdicts`.
        """
        key = (case, criterion, baseline, all_pairs)
        if key not in self._verdicts:
            scores = self.scores(case, criterion)
            self._verdicts[key] = (
                {}
                if baseline not in scores
                else verdicts(
                    scores,
                    baseline,
                    criterion.direction,
                    criterion.margin or 0.0,
                    share=is_share(criterion.name, self.tasks[case]),
                    not_learned=self.not_learned(case),
                    all_pairs=all_pairs,
                )
            )
        return self._verdicts[key]

    def ranked(self, case: str, criterion: Criterion) -> list[str]:
        """Return the encodings that have learned, the best mean first; those with one seed come after all others."""
        scores, factor = self.scores(case, criterion), sign(criterion.direction)
        known = [n for n, one in scores.items() if np.isfinite(one.mean) and n not in self.not_learned(case)]
        return sorted(known, key=lambda n: (scores[n].finished.sum() < MIN_SEEDS, -factor * scores[n].mean))

    def frame(self) -> pd.DataFrame:
        """Return all finished runs, a row for each metric of a run, of its test, and that decides.

        Columns: case, encoding, seed, metric (a tag), value, diverged, machine, and the tuned values.
        """
        rows = []
        for cell, result in self.cells:
            decided = {
                c.metric: value(c, result.scores, cell.lengths, self.plan.trained[cell.case])
                for c in self.comparison.criteria(cell.case)
            }
            row = {"case": cell.case, "encoding": cell.encoding, "seed": cell.seed}
            ends = {"diverged": bool(result.diverged), "machine": result.machine, **cell.point}
            for tag, number in {**result.metrics, **result.scores, **decided}.items():
                rows.append({**row, "metric": tag, "value": number, **ends})
        return pd.DataFrame(rows, columns=None if rows else ["case", "encoding", "seed", "metric", "value"])

    def by_length(self, case: str, metric: str) -> pd.DataFrame:
        """Return a metric at each of its lengths: columns encoding, seed, length, metric, value."""
        trained, criteria = self.plan.trained[case], self.comparison.criteria(case)
        own = {n for one in criteria if one.name == metric for n in at_lengths(one, (), trained)}
        rows = [
            {"encoding": c.encoding, "seed": c.seed, "length": n, "metric": metric, "value": r.scores[tag]}
            for c, r in self.cells
            if c.case == case
            for n in sorted({*c.lengths, *own})
            if (tag := tag_of(metric, n)) in r.scores
        ]
        return pd.DataFrame(rows, columns=["encoding", "seed", "length", "metric", "value"])

"""Results of a comparison: its runs, and what is known of the differences between encodings."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
import pandas as pd

from poslab.evaluation.scores.items import ItemScores, MeasuredRun, shared_items
from poslab.experiments.comparison import Comparison
from poslab.experiments.criteria import COSTS, Criterion, sign
from poslab.experiments.metrics import at_lengths, is_share, scored_lengths, tag_of, value
from poslab.experiments.statistics.difference import MIN_SEEDS, Scores
from poslab.experiments.statistics.verdict import Verdict, Word, verdicts
from poslab.experiments.tables import RunResult
from poslab.experiments.tuned_points import TunedPoint, mean_trials, trial_value, tuned_point

T = TypeVar("T")


@dataclass(frozen=True)
class Results:
    """Results of a comparison at one moment."""

    comparison: Comparison
    rows: Sequence[RunResult]  # its runs and trials: those that are finished, failed for good, or cannot begin
    # returns the scores of a run on each test item; None where they are not known
    items: Callable[[RunResult], MeasuredRun | None] = lambda run: None
    # whether these are runs that no command of a comparison has trained, which need not have the same seeds
    exist_already: bool = False
    _known: dict[Any, Any] = field(default_factory=dict, init=False, repr=False)
    """Results read or computed already, by the name of the method and its arguments."""

    @cached_property
    def finished(self) -> list[RunResult]:
        """The finished runs, also those that diverged; trials and failures aside."""
        return [run for run in self.rows if not run.is_trial and run.status in ("finished", "diverged")]

    @cached_property
    def of_earlier_splits(self) -> list[str]:
        """The cases with runs or trials on an earlier version of the split of their data."""
        known = (run for run in self.rows if run.status in ("finished", "diverged"))
        old = {run.case for run in known if run.split != run.newest_split}
        return [case for case in self.comparison.cases if case in old]

    @cached_property
    def failed(self) -> list[RunResult]:
        """The runs and trials that failed for good."""
        return [run for run in self.rows if run.status == "failed"]

    @cached_property
    def blocked(self) -> list[RunResult]:
        """The runs that cannot begin, since those that they start from diverged or failed."""
        return [run for run in self.rows if run.status == "blocked"]

    @cached_property
    def _by_pair(self) -> dict[tuple[str, str], dict[int, RunResult]]:
        """The finished runs by case and encoding, and by seed."""
        by_pair: dict[tuple[str, str], dict[int, RunResult]] = {}
        for run in self.finished:
            by_pair.setdefault((run.case, run.encoding), {})[run.seed] = run
        return by_pair

    def runs(self, case: str, encoding: str) -> dict[int, RunResult]:
        """Return the finished runs of an encoding on a case, by seed."""
        return self._by_pair.get((case, encoding), {})

    def runs_of_case(self, case: str) -> list[RunResult]:
        return [run for run in self.finished if run.case == case]

    def first_run(self, case: str) -> RunResult:
        """Return a finished run of a case, whose task, lengths and training length are the same in all."""
        return next(iter(self.runs_of_case(case)), RunResult(case, "", 0))

    def lengths(self, case: str) -> list[int]:
        return list(self.first_run(case).lengths)

    def training_length(self, case: str) -> int:
        return self.first_run(case).training_length

    def is_share(self, case: str, metric: str) -> bool:
        """Return whether the values of a metric on a case are shares, from 0 to 100."""
        return is_share(metric, self.first_run(case).open_ended)

    def tuned(self, case: str) -> dict[str, TunedPoint]:
        """Return the choices of the tuning on a case, by encoding, as far as it is finished."""
        tuning, choices = self.comparison.tuning_of(case), {}
        for encoding in self.comparison.encodings_of(case) if tuning is not None else ():
            trials = [run for run in self.rows if run.is_trial and (run.case, run.encoding) == (case, encoding)]
            if tuning is not None and len(trials) >= tuning.trials_of(encoding) * len(tuning.seed_list):
                metrics = [run.metrics if run.status == "finished" else None for run in trials]
                values = [(run.point, trial_value(m, tuning)) for run, m in zip(trials, metrics, strict=True)]
                choices[encoding] = tuned_point(mean_trials(values), tuning, encoding)
        return choices

    def owes_to_trials(self, case: str, encoding: str, other: str) -> bool:
        """Return whether an encoding was tuned to a point that it would not have with as few trials as another."""
        tuned = self.tuned(self.comparison.all_cases[case].tuned_as or case)
        if encoding not in tuned or other not in tuned:
            return False
        return tuned[encoding].point not in [point for point, _ in tuned[encoding].trials[: len(tuned[other].trials)]]

    def timed(self, case: str) -> dict[str, RunResult]:
        """Return the run of each encoding on a case whose speed of reading test items was measured."""
        return {run.encoding: run for run in reversed(self.runs_of_case(case)) if run.reading}

    def encodings(self, case: str) -> list[str]:
        """Return the encodings with a finished run on a case."""
        return [name for name in self.comparison.encodings_of(case) if self.runs(case, name)]

    def has_trained(self, case: str) -> bool:
        """Return whether a run of a case has made a step; with `trainer.max_steps=0` none has."""
        return any(run.metrics.get("steps", 1) for run in self.runs_of_case(case))

    def are_given(self, case: str) -> bool:
        """Return whether the models of a case exist already and were not trained, so that they are no sample."""
        return self.exist_already and not self.has_trained(case)

    def is_comparable(self, case: str) -> bool:
        """Return whether a seed of all encodings with a run on a case is finished.

        Runs that exist already need not share one.
        """
        seeds = [set(self.runs(case, name)) for name in self.encodings(case)]
        return bool(seeds) and (self.exist_already or bool(set.intersection(*seeds)))

    def values(self, case: str, criterion: Criterion, encoding: str) -> dict[int, float]:
        """Return the value of each seed; NaN of one that diverged, or has no score at a length."""
        return {
            seed: value(criterion, run.scores, run.lengths, run.training_length)
            for seed, run in self.runs(case, encoding).items()
        }

    def mean(self, case: str, criterion: Criterion, encoding: str) -> float:
        """Return the mean value over the seeds that did not diverge; NaN if there are none."""
        known = [number for number in self.values(case, criterion, encoding).values() if np.isfinite(number)]
        return sum(known) / len(known) if known else np.nan

    def cost(self, case: str, encoding: str, name: str) -> float:
        """Return the mean cost of the runs of an encoding on a case, by its name in `COSTS`; NaN where none has it."""
        tag = COSTS[name]
        values = [run.metrics[tag] for run in self.runs(case, encoding).values() if tag in run.metrics]
        return sum(values) / len(values) if values else np.nan

    def _once(self, key: tuple[Any, ...], make: Callable[[], T]) -> T:
        """Return what was made under a key, made at the first call."""
        if key not in self._known:
            self._known[key] = make()
        return self._known[key]

    def positioned_items(self, case: str, criterion: Criterion) -> dict[str, tuple[int, int]]:
        """Return how many test items each encoding has positions for, of those that any has; {} if it is unknown."""
        return self._once(("positioned", case, criterion), lambda: self._count_positioned(case, criterion))

    def _count_positioned(self, case: str, criterion: Criterion) -> dict[str, tuple[int, int]]:
        counted = {}
        for encoding in self.reaching(case, criterion):
            run = next((run for run in self.runs(case, encoding).values() if not run.diverged), None)
            if run is not None:
                if (items := self._items(criterion, run)) is None:
                    return {}
                counted[encoding] = np.concatenate([scores.counts > 0 for scores in items])
        if not counted:
            return {}
        total = int(np.any(list(counted.values()), axis=0).sum())
        return {encoding: (int(counts.sum()), total) for encoding, counts in counted.items()}

    def reaching(self, case: str, criterion: Criterion) -> list[str]:
        """Return the encodings that have positions at the lengths of a metric; all runs that diverged may have them."""
        return [
            encoding
            for encoding in self.encodings(case)
            if all(
                run.diverged or all(tag_of(criterion.name, n) in run.scores for n in _lengths(criterion, run))
                for run in self.runs(case, encoding).values()
            )
        ]

    def scores(self, case: str, criterion: Criterion) -> dict[str, Scores]:
        """Return the scores of each encoding that reaches the lengths of a metric, for all its seeds.

        There are none until `is_comparable`. They are scores of test items where all runs have them, on the items that
        all have positions for.
        """
        return self._once(("scores", case, criterion), lambda: self._read_scores(case, criterion))

    def _read_scores(self, case: str, criterion: Criterion) -> dict[str, Scores]:
        if not self.is_comparable(case):
            return {}
        seeds = {encoding: sorted(self.runs(case, encoding)) for encoding in self.reaching(case, criterion)}
        by_item = self._by_item(case, criterion, seeds)
        if by_item is not None:
            return {encoding: Scores.of_items(items, seeds[encoding]) for encoding, items in by_item.items()}
        values = {encoding: self.values(case, criterion, encoding) for encoding in seeds}
        return {
            encoding: Scores(np.array([values[encoding][seed] for seed in of_encoding]), seeds=of_encoding)
            for encoding, of_encoding in seeds.items()
        }

    def _by_item(
        self, case: str, criterion: Criterion, seeds: Mapping[str, Sequence[int]]
    ) -> dict[str, np.ndarray] | None:
        """Return the scores of test items, (S, I), by encoding, NaN of a run that diverged; None where a run has none.

        ValueError if runs were tested on different items.
        """
        every = [self.runs(case, encoding)[seed] for encoding, of_encoding in seeds.items() for seed in of_encoding]
        items_of_run = {run.key: self._items(criterion, run) for run in every if not run.diverged}
        known = {key: items for key, items in items_of_run.items() if items is not None}
        if not known or len(known) < len(items_of_run):
            return None
        rows = rows_of_items(list(known.values()), every[0].aggregate_lengths)
        if rows is None:
            return None
        of_run, lost = dict(zip(known, rows, strict=True)), np.full_like(rows[0], np.nan)
        return {
            encoding: np.stack([of_run.get((case, encoding, seed), lost) for seed in of_encoding])
            for encoding, of_encoding in seeds.items()
        }

    def measured(self, run: RunResult) -> MeasuredRun | None:
        """Return the scores of a run on each test item; None if they are not known.

        Scores whose values are not the run's are of other weights, or were changed, and are not read either.
        """

        def read() -> MeasuredRun | None:
            measured = self.items(run)
            return measured if measured is not None and _fits(measured, run) else None

        return self._once(("measured", run.key), read)

    def _items(self, criterion: Criterion, run: RunResult) -> list[ItemScores] | None:
        """Return the scores of test items of a run at each length of a metric; None where there are none here."""
        lengths, measured = _lengths(criterion, run), self.measured(run)
        if not lengths or measured is None:
            return None
        scores = [measured.scores.get((criterion.name, length)) for length in lengths]
        return None if None in scores else scores  # type: ignore[return-value]

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

    def verdicts(self, case: str, criterion: Criterion, baseline: str, is_best: bool = False) -> dict[str, Verdict]:
        """Return the verdict on each encoding relative to a baseline; none if the baseline has no run.

        A baseline that is chosen by its scores `is_best`, as of `statistics.verdict.verdicts`.
        """

        def compare() -> dict[str, Verdict]:
            if baseline not in (scores := self.scores(case, criterion)):
                return {}
            found = verdicts(
                scores,
                baseline,
                criterion.direction,
                criterion.margin or 0.0,
                share=self.is_share(case, criterion.name),
                paired=self.comparison.pairing,
                not_learned=self.not_learned(case),
                given=self.are_given(case),
                is_best=is_best,
            )
            for name, verdict in found.items():
                pair = {Word.BETTER: (name, baseline), Word.WORSE: (baseline, name)}.get(verdict.word)
                if pair is not None and self.owes_to_trials(case, *pair):
                    found[name] = replace(verdict, word=Word.INCONCLUSIVE)
            return found

        return self._once(("verdicts", case, criterion, baseline, is_best), compare)

    def ranked(self, case: str, criterion: Criterion) -> list[str]:
        """Return the encodings that have learned, the best mean first; ones with one seed come after all others."""
        scores, factor = self.scores(case, criterion), sign(criterion.direction)
        known = [
            n for n, of_encoding in scores.items() if np.isfinite(of_encoding.mean) and n not in self.not_learned(case)
        ]
        return sorted(known, key=lambda n: (scores[n].finished.sum() < MIN_SEEDS, -factor * scores[n].mean))

    def frame(self) -> pd.DataFrame:
        """Return all finished runs, a row for each metric of a run, of its test, and that decides.

        Columns: case, encoding, seed, metric (a tag), value, diverged, machine, and the tuned values.
        """
        rows = []
        for run in self.finished:
            decided = {
                c.metric: value(c, run.scores, run.lengths, run.training_length)
                for c in self.comparison.criteria(run.case)
            }
            row = {"case": run.case, "encoding": run.encoding, "seed": run.seed}
            ends = {"diverged": run.diverged, "machine": run.machine, **run.point}
            for tag, number in {**run.metrics, **run.scores, **decided}.items():
                rows.append({**row, "metric": tag, "value": number, **ends})
        return pd.DataFrame(rows, columns=None if rows else ["case", "encoding", "seed", "metric", "value"])

    def by_length(self, case: str, metric: str) -> pd.DataFrame:
        """Return a metric at each of its lengths: columns encoding, seed, length, metric, value."""
        trained, criteria = self.training_length(case), self.comparison.criteria(case)
        named = {n for criterion in criteria if criterion.name == metric for n in at_lengths(criterion, (), trained)}
        rows = [
            {"encoding": run.encoding, "seed": run.seed, "length": n, "metric": metric, "value": run.scores[tag]}
            for run in self.runs_of_case(case)
            for n in sorted({*run.lengths, *named})
            if (tag := tag_of(metric, n)) in run.scores
        ]
        return pd.DataFrame(rows, columns=["encoding", "seed", "length", "metric", "value"])


def _lengths(criterion: Criterion, run: RunResult) -> list[int | None]:
    return scored_lengths(criterion, run.scores, run.lengths, run.training_length)


def _fits(measured: MeasuredRun, run: RunResult) -> bool:
    """Return whether the scores of test items have the values of a run."""
    values = {key: (scores.value, run.scores.get(tag_of(*key))) for key, scores in measured.scores.items()}
    return all(
        run_value is None or np.isclose(value, run_value, rtol=1e-6, equal_nan=True)
        for value, run_value in values.values()
    )


def rows_of_items(runs: Sequence[Sequence[ItemScores]], aggregate_lengths: bool) -> list[np.ndarray] | None:
    """Return the scores of each run, (I,), on the I items that all runs have positions for.

    Their mean is the mean of a metric over lengths, each of which counts alike. `runs` has the scores at each length of
    each. With `aggregate_lengths`, each length has other items. Otherwise these are the same texts, read in windows of
    each length, and the result is None if a length has another number of them. ValueError if runs were tested on
    different items.
    """
    shared = [shared_items(of_length) for of_length in zip(*runs, strict=True)]
    sizes = [len(scores[0].sums) for scores in shared]
    if aggregate_lengths:
        weights = [sum(sizes) / (len(sizes) * size) for size in sizes]
        parts = [
            [weight * item_scores.linearised for item_scores in scores]
            for weight, scores in zip(weights, shared, strict=True)
        ]
        return [np.concatenate(row) for row in zip(*parts, strict=True)]
    if len(set(sizes)) > 1:
        return None
    return [np.mean([item_scores.linearised for item_scores in row], axis=0) for row in zip(*shared, strict=True)]

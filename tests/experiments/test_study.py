"""The cells of a comparison in their run directories: any number of processes take them, and none is trained twice."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from poslab.experiments.cells import CellResult
from poslab.experiments.jobs import KILLED, Failure
from poslab.experiments.plan import ComparisonJobs, cell_of_key, ledger_of
from poslab.experiments.tables import RunResult
from tests.experiments.comparisons import TUNING, plan

DONE = CellResult({"steps": 3, "validation/loss": 1.0}, {"exact_match@20": 50.0}, machine="one")


@pytest.fixture
def studies(tmp_path):
    """A function that opens the jobs as another process does."""

    def opened(**changes):
        made = plan(**{"output": str(tmp_path), **changes})
        return ComparisonJobs(made, ledger_of(made.comparison))

    return opened


def row_of_cell(cell):
    known = {"metrics": DONE.metrics, "scores": DONE.scores, "machine": DONE.machine}
    return RunResult(cell.case, cell.encoding, cell.seed, cell.is_trial, identity=cell.identity, **known)


def finish_all(study, result=DONE):
    """Take and complete cells until there is none; return their labels."""
    labels = []
    while (trial := study.take("worker")) is not None:
        labels.append(cell_of_key(trial.key).label)
        study.complete(trial, result)
    return labels


def test_processes_take_different_cells(studies):
    one, other = studies(), studies()
    taken = [cell_of_key(study.take("worker").key).label for study in (one, other) * 3]
    assert len(set(taken)) == 6
    assert one.take("worker") is None
    assert one.snapshot().unfinished


def test_a_study_is_settled_when_all_cells_are_finished(studies):
    study = studies()
    assert len(finish_all(study)) == 6
    assert study.snapshot().unfinished == 0
    assert all(study.results()[cell.identity] == DONE for cell in study.plan.wanted({})[0])


def test_more_seeds_later_train_only_what_is_missing(studies):
    finish_all(studies())
    assert finish_all(studies(seeds=3)) == [f"copying: {name}, seed 3" for name in ("none", "rotary", "slow")]


def test_a_comparison_goes_on_from_rows_of_its_tables(studies, tmp_path):
    first = studies(tuning=TUNING)
    finish_all(first)
    rows = [row_of_cell(cell_of_key(key)) for key in first.results()]
    rows[0] = replace(rows[0], status="failed")
    elsewhere = studies(tuning=TUNING, output=str(tmp_path / "elsewhere"), seeds=3)
    elsewhere.enter(rows)
    elsewhere.enter([])
    assert finish_all(elsewhere) == [f"copying: {name}, seed 3" for name in ("none", "rotary", "slow")]
    assert len(elsewhere.snapshot().failed) == 1


def test_rows_of_other_settings_are_not_entered(studies, tmp_path):
    study = studies()
    cell = study.plan.wanted({})[0][0]
    other = replace(cell, definition="another")
    study.enter([RunResult(cell.case, cell.encoding, cell.seed, identity=other.identity)])
    study.enter([RunResult(cell.case, cell.encoding, cell.seed, identity="{")])
    assert study.results() == {}


def test_runs_wait_for_their_tuning(studies):
    study = studies(tuning=TUNING)
    trials = [study.take("worker") for _ in range(9)]
    assert study.take("worker") is None
    assert study.snapshot().unfinished == 15
    for trial in trials:
        study.complete(trial, DONE)
    labels = finish_all(study)
    assert study.snapshot().unfinished == 0
    assert labels[-6:] == [f"copying: {name}, seed {seed}" for seed in (1, 2) for name in ("none", "rotary", "slow")]


def test_a_cell_whose_worker_was_killed_is_taken_again(studies):
    study = studies()
    trial = study.take("one")
    study.fail(trial, KILLED)
    again = study.take("other")
    assert cell_of_key(again.key) == cell_of_key(trial.key)
    assert again.directory == trial.directory


def test_a_cell_that_fails_for_good_leaves_the_others(studies):
    study = studies()
    trial = study.take("worker")
    study.fail(trial, Failure("too large", can_pass=False))
    assert len(finish_all(study)) == 5
    assert study.snapshot().unfinished == 0
    assert study.results()[cell_of_key(trial.key).identity] is None


def test_a_study_is_settled_without_the_runs_that_would_begin_with_one_that_diverged(studies):
    cases = {"copying": {"train": {"dataset": "copy"}}, "again": {"train": {"dataset": "copy"}, "after": "copying"}}
    study = studies(cases=cases, seeds=1)
    for _ in range(3):
        trial = study.take("worker")
        is_lost = cell_of_key(trial.key).encoding == "none"
        study.complete(trial, CellResult(diverged="the loss is nan") if is_lost else DONE)
    assert finish_all(study) == ["again: rotary, seed 1", "again: slow, seed 1"]
    assert study.snapshot().unfinished == 0
    assert [cell.label for cell in study.plan.blocked(study.results())] == ["again: none, seed 1"]


def test_numbers_that_are_not_finite_come_back(studies):
    study = studies()
    trial = study.take("worker")
    study.complete(trial, CellResult({"test/loss": math.inf}, {"loss@20": math.nan}, "not finite"))
    result = study.results()[cell_of_key(trial.key).identity]
    assert (result.metrics["test/loss"], result.diverged) == (math.inf, "not finite")
    assert math.isnan(result.scores["loss@20"])

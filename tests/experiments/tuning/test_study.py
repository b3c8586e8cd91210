from __future__ import annotations

import multiprocessing
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

import optuna
import pytest
from optuna.storages import BaseStorage
from optuna.trial import Trial, TrialState
from sqlalchemy import create_engine

from poslab.experiments.pool.failure import KILLED, Failure
from poslab.experiments.tuning.attributes import IDENTITY, MADE_WITH, SPECIFICATION
from poslab.experiments.tuning.command import run_sweep
from poslab.experiments.tuning.joining import make_or_join
from poslab.experiments.tuning.storage import open_storage
from poslab.experiments.tuning.study import SweepStudy, TrialResult
from poslab.experiments.tuning.sweep import Sweep
from poslab.experiments.tuning.trial_configuration import TrialConfigurations
from poslab.experiments.tuning.trial_record import recorded_failure

from .sweeps import CONF, joined, small_sweep, taken


def test_a_study_gives_out_its_budget_and_no_more(storage_url, tmp_path):
    study = joined(small_sweep(tmp_path, n_trials=3, storage=storage_url))

    trials = [taken(study) for _ in range(3)]

    assert [trial.number for trial in trials] == [0, 1, 2]
    assert study.take("somebody") is None
    for trial in trials:
        study.complete(trial, TrialResult([1.0], {}))
    assert study.record().is_settled


def test_a_trial_that_was_put_back_is_taken_again(storage_url, tmp_path):
    study = joined(small_sweep(tmp_path, n_trials=1, storage=storage_url))
    trial = taken(study)
    base = trial.suggest_float("encoding.base", 100, 1e5, log=True)
    trial.report(2.0, 1)

    study.put_back(trial)
    again = taken(study, "another")

    assert again.number == trial.number
    assert again.suggest_float("encoding.base", 100, 1e5, log=True) == base
    assert study.current(again).intermediate_values == {1: 2.0}


def test_a_failure_that_can_pass_is_retried_with_its_parameters(storage_url, tmp_path):
    study = joined(small_sweep(tmp_path, n_trials=2, storage=storage_url))
    first, second = taken(study), taken(study)
    base = second.suggest_float("encoding.base", 100, 1e5, log=True)

    study.fail(first, Failure("the loss is not finite", can_pass=False))
    study.fail(second, Failure("its worker was killed", can_pass=True))
    retry = taken(study)

    assert retry.suggest_float("encoding.base", 100, 1e5, log=True) == base
    assert study.take("two") is None
    study.complete(retry, TrialResult([1.0], {}))
    assert study.record().is_settled
    assert [recorded_failure(trial).reason for trial in study.record().in_state(TrialState.FAIL)] == [
        "the loss is not finite"
    ]


@pytest.mark.slow
def test_a_retry_of_a_trial_that_died_before_it_had_parameters_gets_those_that_the_trial_would_have_had(tmp_path):
    def base(trial: Trial) -> float:
        return trial.suggest_float("encoding.base", 100, 1e5, log=True)

    undisturbed = joined(small_sweep(tmp_path, name="undisturbed", storage=f"sqlite:///{tmp_path / 'undisturbed.db'}"))
    expected = [base(taken(undisturbed)) for _ in range(2)]

    study = joined(small_sweep(tmp_path, n_trials=2))
    for trial in [taken(study), taken(study)]:
        study.fail(trial, Failure("its worker was killed", can_pass=True))

    assert expected[0] == 10000.0, "the first is the default"
    assert [base(taken(study)) for _ in range(2)] == expected


def drawn(trial: Trial) -> tuple[Any, ...]:
    """The point of a trial of `small_sweep`."""
    base = trial.suggest_float("encoding.base", 100, 1e5, log=True)
    return base, trial.suggest_categorical("encoding.fraction", [0.5, 1.0])


GRID = {"encoding.base": [100.0, 200.0, 400.0, 800.0], "encoding.fraction": [1.0]}


@pytest.mark.parametrize("search", [{"name": "RandomSampler"}, {"name": "GridSampler", "search_space": GRID}])
def test_kills_do_not_change_which_points_are_tried(search, tmp_path):
    sampler = {"_target_": f"optuna.samplers.{search['name']}", **{k: v for k, v in search.items() if k != "name"}}
    sweep = small_sweep(tmp_path, n_trials=4, sampler=sampler)
    workers = [joined(sweep), joined(sweep)]
    in_memory = optuna.create_study(sampler=workers[0].sampler)
    planned = {drawn(in_memory.ask()) for _ in range(4)}
    assert len(planned) == 4

    ends = ["killed as it is drawn", "killed", "complete", "killed", "complete", "killed as it is drawn", "complete"]
    for taking, end in enumerate([*ends, "complete"]):
        study = workers[taking % 2]
        trial = taken(study)
        trial.suggest_float("encoding.base", 100, 1e5, log=True)
        if end != "killed as it is drawn":
            drawn(trial)
            study.record_beginning(trial, 0)
        if end == "complete":
            study.complete(trial, TrialResult([1.0], {}))
        else:
            study.fail(trial, KILLED)

    record = workers[0].record()
    assert record.is_settled
    assert {tuple(trial.params.values()) for trial in record.in_state(TrialState.COMPLETE)} == planned


def test_a_trial_that_was_taken_for_lost_does_not_come_back(tmp_path):
    study = joined(small_sweep(tmp_path, n_trials=1))
    trial = taken(study)
    study.fail(trial, Failure("the heartbeat stopped", can_pass=True))

    study.complete(trial, TrialResult([1.0], {}))
    study.put_back(trial)
    study.fail(trial, Failure("something else", can_pass=False))

    assert study.current(trial).state == TrialState.FAIL
    assert recorded_failure(study.current(trial)).reason == "the heartbeat stopped"


def take_everything(sweep: Sweep, name: str, numbers: Any) -> None:
    study = SweepStudy(sweep, open_storage(sweep), seed=1, default={})
    while (trial := study.take(name)) is not None:
        study.complete(trial, TrialResult([0.0], {}))
        numbers.put(trial.number)


@pytest.mark.slow
def test_processes_that_take_trials_at_once_share_the_budget(storage_url, tmp_path):
    sweep = small_sweep(tmp_path, n_trials=24, storage=storage_url)
    study = joined(sweep)
    context = multiprocessing.get_context("spawn")
    numbers_taken = context.Queue()
    processes = [context.Process(target=take_everything, args=(sweep, f"worker {i}", numbers_taken)) for i in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()

    numbers = sorted(numbers_taken.get(timeout=5) for _ in range(24))
    assert numbers_taken.empty()
    assert len(set(numbers)) == 24
    assert study.record().is_settled
    assert not study.get_trials(states=[TrialState.RUNNING])


def test_an_exhaustive_sampler_tries_everything_once_and_settles_the_study(tmp_path):
    sampler = {"_target_": "optuna.samplers.BruteForceSampler"}
    study = joined(small_sweep(tmp_path, n_trials=10, sampler=sampler), default={"x": 2, "y": "b"})

    while (trial := study.take("one")) is not None:
        trial.suggest_int("x", 1, 3)
        trial.suggest_categorical("y", ["a", "b"])
        study.complete(trial, TrialResult([0.0], {}))

    tried = [(trial.params["x"], trial.params["y"]) for trial in study.record().finished]
    assert sorted(tried) == [(x, y) for x in (1, 2, 3) for y in "ab"]
    assert study.record().is_settled


def test_a_study_keeps_what_is_needed_to_repeat_it(tmp_path):
    study = joined(small_sweep(tmp_path))

    asked, made_with = study.user_attrs[SPECIFICATION], study.user_attrs[MADE_WITH]
    assert asked["space"]["encoding.fraction"] == {"choices": [0.5, 1.0]}
    assert asked["sampler"] == {"_target_": "optuna.samplers.RandomSampler"}
    assert asked["configuration"]["optimizer"]["lr"] == 0.002
    assert made_with["optuna"] == optuna.__version__
    assert made_with["seed"] == 1


def test_a_study_of_somebody_else_is_not_joined(tmp_path):
    sweep = small_sweep(tmp_path)
    Path(sweep.output).mkdir()
    optuna.create_study(study_name=sweep.name, storage=f"sqlite:///{sweep.output}/study.db").ask()

    with pytest.raises(ValueError, match="the storage has a study of that name that is not a sweep of Poslab's"):
        joined(sweep)


def test_a_study_of_a_comparison_is_not_joined(tmp_path):
    sweep = small_sweep(tmp_path)
    Path(sweep.output).mkdir()
    optuna.create_study(study_name=sweep.name, storage=open_storage(sweep)).set_user_attr(IDENTITY, "0123")

    with pytest.raises(ValueError, match="the storage has a study of that name that is not a sweep of Poslab's"):
        joined(sweep)


@pytest.mark.parametrize(
    ("other", "key"),
    [
        ({"space": {"encoding.base": {"float": [100, 200]}}}, r"space\.encoding\.base\.float"),
        ({"objectives": ["validation/loss"]}, "objectives"),
        ({"seeds": 3}, "seeds"),
        ({"pruner": {"_target_": "optuna.pruners.MedianPruner"}}, "pruner"),
    ],
)
def test_a_study_that_asks_something_else_is_not_joined(other, key, tmp_path):
    joined(small_sweep(tmp_path))

    with pytest.raises(ValueError, match=f"the study .* was begun with another {key}"):
        joined(small_sweep(tmp_path, **other))


def test_a_larger_budget_and_more_workers_join_the_same_study(tmp_path):
    joined(small_sweep(tmp_path))

    assert joined(small_sweep(tmp_path, n_trials=9, workers=3, lost_after=5)).record().missing == 9


def test_a_budget_smaller_than_what_has_begun_is_refused(tmp_path):
    study = joined(small_sweep(tmp_path, n_trials=4))
    for _ in range(3):
        study.complete(taken(study), TrialResult([1.0], {}))

    joined(small_sweep(tmp_path, n_trials=3))
    with pytest.raises(ValueError, match=r"^n_trials must be at least 3, as many .* as have begun already, got 2$"):
        joined(small_sweep(tmp_path, n_trials=2))


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("sqlite:////nowhere/at/all/study.db", "cannot be reached: there is no folder /nowhere/at/all"),
        ("postgresql://a:p@sec:ret@127.0.0.1/x", r"postgresql\+psycopg://a:\*\*\*@127.* is not the URL of a database"),
        ("postgresql+psycopg://a:secret@127.0.0.1:1/x", r"postgresql\+psycopg://a:\*\*\*@127.*cannot be reached"),
        ("nonsense://x", "storage=nonsense://x cannot be reached"),
    ],
)
def test_a_storage_that_cannot_be_reached_is_one_sentence(url, sentence, tmp_path):
    with pytest.raises(ValueError, match=sentence):
        open_storage(small_sweep(tmp_path, storage=url))


@pytest.mark.slow
def test_processes_that_begin_together_make_one_storage(storage_url, tmp_path):
    if storage_url.startswith("postgresql"):
        with create_engine(storage_url, isolation_level="AUTOCOMMIT").connect() as server:
            server.exec_driver_sql("CREATE DATABASE without_tables")
    sweep = small_sweep(tmp_path, storage=storage_url.replace("/postgres", "/without_tables"))
    together = Barrier(8)

    def begin(_: int) -> BaseStorage:
        together.wait()
        return open_storage(sweep)

    with ThreadPoolExecutor(8) as pool:
        assert [storage.get_all_studies() for storage in pool.map(begin, range(8))] == [[]] * 8


def test_a_dry_run_says_what_is_searched_and_left_to_do_and_makes_nothing(tmp_path, capsys):
    sweep = small_sweep(tmp_path)
    run_sweep(sweep, CONF, dry_run=True)
    printed = capsys.readouterr().out
    assert all(word in printed for word in ("encoding.base", "from 100 to 100000", "10000.0", "0 of 4", "to go"))
    assert not Path(sweep.output).exists()
    default, config = {"encoding.base": 10000.0, "encoding.fraction": 1.0}, TrialConfigurations(CONF, sweep).of({})
    Path(sweep.output).mkdir()
    study = make_or_join(sweep, open_storage(sweep), default, config)
    study.complete(taken(study), TrialResult([1.0], {}))
    run_sweep(sweep, CONF, dry_run=True)
    assert "1 of 4" in capsys.readouterr().out

"""The search of a sweep: its study is shared, resumed after kills, and joined only by the same question."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

import optuna
import pytest
from optuna.storages import BaseStorage
from optuna.trial import Trial, TrialState
from sqlalchemy import create_engine

from poslab.experiments.jobs import KILLED, STUDY, DatabaseLedger, Failure, Job
from poslab.experiments.search import (
    MADE_WITH,
    SPECIFICATION,
    SweepJobs,
    TrialResult,
    build_pruner,
    make_or_join,
    sampler_of,
)
from poslab.experiments.storage import open_storage
from poslab.experiments.sweep import Sweep
from poslab.experiments.sweep_command import run_sweep
from poslab.experiments.trial_run import TrialConfigurations

from .sweeps import CONF, joined, small_sweep, taken

ONE = TrialResult([1.0], {})


def trial_of(study: SweepJobs, worker: str = "worker") -> Trial:
    """The trial of a job that is taken."""
    trial = study.trial(taken(study, worker))
    assert trial is not None
    return trial


def base(trial: Trial | None) -> float:
    assert trial is not None
    return trial.suggest_float("encoding.base", 100, 1e5, log=True)


def test_a_study_gives_out_its_budget_and_no_more(storage_url, tmp_path):
    study = joined(small_sweep(tmp_path, n_trials=3, storage=storage_url))

    jobs = [taken(study) for _ in range(3)]

    assert [job.key for job in jobs] == ["0", "1", "2"]
    assert study.take("somebody") is None
    for job in jobs:
        study.trial(job)
        study.complete(job, ONE)
    assert study.snapshot().unfinished == 0
    assert [trial.state for trial in study.finished()] == [TrialState.COMPLETE] * 3


def test_a_trial_that_was_put_back_is_taken_again(storage_url, tmp_path):
    study = joined(small_sweep(tmp_path, n_trials=1, storage=storage_url))
    job = taken(study)
    trial = study.trial(job)
    first = base(trial)
    trial.report(2.0, 1)

    study.put_back(job)
    assert study.trials()["0"].state == TrialState.WAITING
    again = trial_of(study, "another")

    assert again.number == trial.number
    assert base(again) == first
    assert study.trials()["0"].intermediate_values == {1: 2.0}


def test_a_failure_that_can_pass_is_retried_with_its_parameters(storage_url, tmp_path):
    study = joined(small_sweep(tmp_path, n_trials=2, storage=storage_url))
    first, second = taken(study), taken(study)
    study.trial(first)
    drawn_base = base(study.trial(second))

    study.fail(first, Failure("the loss is not finite", can_pass=False))
    study.fail(second, KILLED)
    retry = taken(study)

    assert base(study.trial(retry)) == drawn_base
    assert study.take("two") is None
    study.complete(retry, ONE)
    assert study.snapshot().unfinished == 0
    assert [trial.user_attrs.get("reason") for trial in study.finished()] == ["the loss is not finite", None]
    assert [trial.state for trial in study.finished()] == [TrialState.FAIL, TrialState.COMPLETE]


def test_a_result_that_optuna_knows_and_the_record_does_not_is_not_trained_again(tmp_path):
    study = joined(small_sweep(tmp_path, n_trials=1))
    study.study.tell(trial_of(study).number, 2.0)
    study.fail(Job("0", "worker", study.directory_of("0")), KILLED)  # before it has completed the record

    job = taken(study)
    assert study.trial(job) is None
    study.complete(job, None)
    assert study.finished()[0].value == 2.0


DEFAULT = {"encoding.base": 10000.0, "encoding.fraction": 1.0}


def asked(sweep: Sweep, default: dict[str, Any], trials: int, seed: int = 1) -> Iterator[Trial]:
    """Trials of a study in memory, each with the sampler of its number."""
    study = optuna.create_study()
    for number in range(trials):
        study.sampler = sampler_of(sweep, number, seed, default)
        yield study.ask()


def drawn(trial: Trial) -> tuple[Any, ...]:
    """The point of a trial of `small_sweep`."""
    return base(trial), trial.suggest_categorical("encoding.fraction", [0.5, 1.0])


GRID = {"encoding.base": [100.0, 200.0, 400.0, 800.0], "encoding.fraction": [1.0]}


@pytest.mark.parametrize("search", [{"name": "RandomSampler"}, {"name": "GridSampler", "search_space": GRID}])
def test_kills_do_not_change_which_points_are_tried(search, tmp_path):
    sampler = {"_target_": f"optuna.samplers.{search['name']}", **{k: v for k, v in search.items() if k != "name"}}
    sweep = small_sweep(tmp_path, n_trials=4, sampler=sampler)
    workers = [joined(sweep), joined(sweep)]
    planned = [drawn(trial) for trial in asked(sweep, DEFAULT, 4)]
    assert len(set(planned)) == 4

    ends = ["killed as it is taken", "killed as it is drawn", "killed", "complete", "killed as it is drawn", "complete"]
    for taking, end in enumerate([*ends, "killed", "killed", "complete", "complete"]):
        study = workers[taking % 2]
        job = taken(study)
        if end != "killed as it is taken":
            trial = study.trial(job)
            base(trial)
            if end != "killed as it is drawn":
                drawn(trial)
        if end == "complete":
            study.complete(job, ONE)
        else:
            study.fail(job, KILLED)

    assert workers[0].snapshot().unfinished == 0
    assert [tuple(trial.params.values()) for trial in workers[0].finished()] == planned


@pytest.mark.parametrize(
    ("sampler", "default"),
    [
        ({"_target_": "optuna.samplers.BruteForceSampler"}, {"x": 2, "y": "b"}),
        (
            {"_target_": "optuna.samplers.GridSampler", "search_space": {"x": [1, 2, 3], "y": ["a", "b"]}},
            {"x": 9, "y": "a"},
        ),
    ],
)
def test_an_exhaustive_sampler_tries_everything_once_and_settles_the_study(tmp_path, sampler, default):
    study = joined(small_sweep(tmp_path, n_trials=10, sampler=sampler), default=default)

    while (job := study.take("one")) is not None:
        trial = study.trial(job)
        trial.suggest_int("x", 1, 9 if default["x"] == 9 else 3)
        trial.suggest_categorical("y", ["a", "b"])
        study.complete(job, TrialResult([0.0], {}))

    tried = [(trial.params["x"], trial.params["y"]) for trial in study.finished()]
    assert sorted(tried) == sorted({tuple(default.values()), *((x, y) for x in (1, 2, 3) for y in "ab")})
    assert study.snapshot().unfinished == 0


def test_a_trial_that_was_taken_for_lost_does_not_come_back(tmp_path):
    study = joined(small_sweep(tmp_path, n_trials=1))
    job = taken(study)
    study.trial(job)
    study.fail(job, Failure("the heartbeat stopped", can_pass=True))

    study.complete(job, ONE)
    study.put_back(job)
    study.fail(job, Failure("something else", can_pass=False))

    assert study.finished() == []
    assert [attempt.failure.reason for attempt in study.records()["0"].attempts] == ["the heartbeat stopped"]


def take_everything(sweep: Sweep, name: str, numbers: Any) -> None:
    study = SweepJobs(sweep, seed=1, default={})
    while (job := study.take(name)) is not None:
        study.trial(job)
        study.complete(job, TrialResult([0.0], {}))
        numbers.put(job.key)


@pytest.mark.slow
def test_processes_that_take_trials_at_once_share_the_budget(storage_url, tmp_path):
    sweep = small_sweep(tmp_path, n_trials=12, storage=storage_url)
    study = joined(sweep)
    context = multiprocessing.get_context("forkserver")
    numbers_taken = context.Queue()
    processes = [context.Process(target=take_everything, args=(sweep, f"worker {i}", numbers_taken)) for i in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()

    numbers = sorted(int(numbers_taken.get(timeout=5)) for _ in range(12))
    assert numbers_taken.empty()
    assert numbers == list(range(12))
    assert [trial.state for trial in study.finished()] == [TrialState.COMPLETE] * 12
    assert not study.study.get_trials(states=[TrialState.RUNNING])


def test_a_study_keeps_what_is_needed_to_repeat_it(tmp_path):
    study = joined(small_sweep(tmp_path))

    asked, made_with = study.study.user_attrs[SPECIFICATION], study.study.user_attrs[MADE_WITH]
    assert asked["space"]["encoding.fraction"] == {"choices": [0.5, 1.0]}
    assert asked["sampler"] == {"_target_": "optuna.samplers.RandomSampler"}
    assert asked["configuration"]["optimizer"]["lr"] == 0.002
    assert made_with["optuna"] == optuna.__version__
    assert made_with["seed"] == 1


def test_a_study_of_somebody_else_is_not_joined(tmp_path):
    sweep = small_sweep(tmp_path)
    Path(sweep.output).mkdir()
    optuna.create_study(study_name=sweep.name, storage=f"sqlite:///{sweep.output}/study.db").ask()

    with pytest.raises(ValueError, match="the storage has a study of"):
        joined(sweep)


def test_a_study_of_a_comparison_is_not_joined(tmp_path):
    sweep = small_sweep(tmp_path)
    Path(sweep.output).mkdir()
    with DatabaseLedger(open_storage(sweep).engine, sweep.name).changing() as records:
        records[STUDY] = {"id": "0123", "kind": "comparison"}

    with pytest.raises(ValueError, match="the storage has a study of"):
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

    with pytest.raises(ValueError, match=f"started with another {key}"):
        joined(small_sweep(tmp_path, **other))


def test_a_larger_budget_and_more_workers_join_the_same_study(tmp_path):
    joined(small_sweep(tmp_path))

    assert joined(small_sweep(tmp_path, n_trials=9, workers=3, lost_after=5)).snapshot().unfinished == 9


def test_a_budget_smaller_than_what_has_begun_is_refused(tmp_path):
    study = joined(small_sweep(tmp_path, n_trials=4))
    for _ in range(3):
        taken(study)

    joined(small_sweep(tmp_path, n_trials=3))
    with pytest.raises(ValueError, match=r"^n_trials must.*at least 3, .* got 2$"):
        joined(small_sweep(tmp_path, n_trials=2))


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("sqlite:////nowhere/at/all/study.db", "cannot be.*/nowhere/at/all"),
        ("postgresql://a:p@sec:ret@127.0.0.1/x", r"postgresql\+psycopg://a:\*\*\*@127.* is not the"),
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
    study = make_or_join(sweep, default, config)
    job = taken(study)
    study.trial(job)
    study.complete(job, ONE)
    run_sweep(sweep, CONF, dry_run=True)
    assert "1 of 4" in capsys.readouterr().out
    with study.ledger.changing() as records:
        records["0"] = {"x": 1}
    with pytest.raises(ValueError, match=r"^storage=.*something else than a job"):
        run_sweep(sweep, CONF, dry_run=True)


TPE = {"_target_": "optuna.samplers.TPESampler", "n_startup_trials": 3}


def drawn_in_memory(node: dict[str, Any], trials: int, folder: Path, seed: int = 1) -> list[dict[str, Any]]:
    """The parameters of trials of a sweep."""
    made = []
    for trial in asked(small_sweep(folder, sampler=node), {"x": 5.0, "y": "b"}, trials, seed):
        x, y = trial.suggest_float("x", 1, 10), trial.suggest_categorical("y", ["a", "b"])
        trial.study.tell(trial, (x - 3) ** 2 + (y == "a"))
        made.append(trial.params)
    return made


def test_trial_0_is_the_default(tmp_path):
    assert drawn_in_memory(TPE, 2, tmp_path)[0] == {"x": 5.0, "y": "b"}


@pytest.mark.parametrize("name", ["TPESampler", "RandomSampler", "QMCSampler", "NSGAIISampler"])
def test_a_sweep_draws_the_same_trials_again_all_of_which_differ(name, tmp_path):
    drawn = drawn_in_memory({"_target_": f"optuna.samplers.{name}"}, 8, tmp_path)
    assert drawn == drawn_in_memory({"_target_": f"optuna.samplers.{name}"}, 8, tmp_path)
    assert len({parameters["x"] for parameters in drawn}) == 8


def test_another_seed_draws_other_trials(tmp_path):
    assert drawn_in_memory(TPE, 4, tmp_path, seed=2)[1:] != drawn_in_memory(TPE, 4, tmp_path, seed=1)[1:]


@pytest.mark.parametrize(
    ("node", "sentence"),
    [
        ({"_target_": "optuna.samplers.TPE"}, r"sampler\._target_: .* TPE"),
        ({"_target_": "optuna.integration.BoTorchSampler"}, r"^sampler\._target_ must name a "),
        ({"_target_": "optuna.pruners.NopPruner"}, r"BaseSampler, got optuna\.pruners\.NopPruner"),
        ({"_target_": "optuna.samplers.TPESampler", "n_startups": 3}, r"sampler\.n_startups: .* has no such"),
    ],
)
def test_a_sampler_that_is_none_is_one_sentence(node, sentence, tmp_path):
    with pytest.raises(ValueError, match=sentence):
        sampler_of(small_sweep(tmp_path, sampler=node), 1, 1, {})


def test_a_pruner_can_wrap_another():
    node = {
        "_target_": "optuna.pruners.PatientPruner",
        "wrapped_pruner": {"_target_": "optuna.pruners.MedianPruner"},
        "patience": 2,
    }

    assert isinstance(build_pruner(node), optuna.pruners.PatientPruner)
    assert isinstance(build_pruner(None), optuna.pruners.NopPruner)
    with pytest.raises(ValueError, match=r"pruner\._target_ must name a BasePruner"):
        build_pruner({"_target_": "optuna.samplers.TPESampler"})

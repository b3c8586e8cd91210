"""SIGKILL to workers and command of a sweep and of a comparison: nothing is lost, and nothing is done twice."""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import optuna
import psutil
import pytest
from optuna.storages import RDBStorage
from optuna.trial import TrialState
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool

from poslab.experiments.jobs import STUDY, DatabaseLedger, FolderLedger, Ledger, Record
from poslab.experiments.plan import cell_of_key
from poslab.experiments.storage_url import DamagedStorageError
from poslab.runs.directory import RunDirectory
from tests.storages import POSTGRESQL

from .running import Moment, Running, rows, start_sweep
from .test_compare import start as start_comparison

KILLS = 10
N_TRIALS = 4
COMMON = ["workers=2", "trainer=cpu", "logger=[csv]", "trainer.max_steps=140", "trainer.saves=70"]


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("storage_url", ["sqlite"], indirect=True)
def test_kills_lose_no_trial_of_a_sweep(storage_url: str, tmp_path: Path, tiny: list[str]) -> None:
    # TPE looks at the trials that are finished, and kills change their order.
    sampler = "sampler={_target_:optuna.samplers.RandomSampler}"
    arguments = [f"name={tmp_path.name}", f"n_trials={N_TRIALS}", "pruner=null", sampler, *tiny, *COMMON]
    (tmp_path / "undisturbed").mkdir()
    ended = start_sweep(tmp_path / "undisturbed", *arguments).wait(300)
    assert ended.status == 0, ended
    undisturbed = results_of_trials(tmp_path.name, f"sqlite:///{tmp_path}/undisturbed/out/study.db")
    begin = partial(start_sweep, tmp_path, *arguments, f"storage={storage_url}")
    results = partial(results_of_trials, tmp_path.name, storage_url)
    records = records_after_kills(begin, tmp_path, database(tmp_path, storage_url), results)

    assert sorted(records) == [str(number) for number in range(N_TRIALS)]
    assert all(record.outcome is not None for record in records.values()), records
    assert results() == undisturbed
    study = optuna.load_study(study_name=tmp_path.name, storage=storage_url)
    assert [trial.state for trial in study.trials] == [TrialState.COMPLETE] * N_TRIALS
    assert study.trials[0].params["encoding.base"] == 10000.0, "the default is missing"
    assert (tmp_path / "out" / "best.yaml").exists()
    for trial in study.trials:
        run = tmp_path / "out" / "trials" / f"{trial.number:04}"
        metrics = RunDirectory(run).metrics()
        means = [metrics[f"validation/bits_per_byte@{length}"] for length in (64, 128)]
        assert trial.value == sum(means) / 2
        assert_trained_once(run)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    ("kept", "kills"), [("folder", KILLS), pytest.param("postgresql", KILLS // 2, marks=pytest.mark.needs(POSTGRESQL))]
)
def test_kills_lose_no_cell_of_a_comparison(
    kept: str, kills: int, tmp_path: Path, tiny: list[str], request: pytest.FixtureRequest
) -> None:
    arguments = ["comparison=question.yaml", "output=out", f"name={tmp_path.name}", "seeds=1"]
    ledger: Ledger = FolderLedger(tmp_path / "out", lambda key: tmp_path / "out" / cell_of_key(key).directory)
    if kept == "postgresql":
        url = request.getfixturevalue("postgresql")
        arguments.append(f"storage={url}")
        ledger = database(tmp_path, url)
    begin = partial(start_comparison, tmp_path, *arguments, *tiny, *COMMON)
    records = records_after_kills(begin, tmp_path, ledger, partial(outcomes, ledger), kills)

    assert all(record.outcome is not None for record in records.values()), records
    cells = [cell_of_key(key) for key in records]
    assert sum(not cell.is_trial for cell in cells) == 2
    assert sum(cell.is_trial for cell in cells) >= 4
    assert (tmp_path / "out" / "report.html").exists()
    for cell in cells:
        assert_trained_once(tmp_path / "out" / cell.directory)


def database(folder: Path, url: str) -> Ledger:
    """The records in a database of the study that has the name of a folder."""
    storage = RDBStorage(url, engine_kwargs={"poolclass": NullPool})  # each command has connections enough
    return DatabaseLedger(storage.engine, folder.name)


def results_of_trials(name: str, url: str) -> dict[str, Any]:
    """Return the state, the values and the parameters of each trial that Optuna has the end of."""
    trials = optuna.load_study(study_name=name, storage=url).trials
    return {str(t.number): (t.state, t.values, t.params) for t in trials if t.state.is_finished()}


def outcomes(ledger: Ledger) -> dict[str, Any]:
    """Return the outcome of each job that has one."""
    return {key: record.outcome for key, record in records_of(ledger).items() if record.outcome is not None}


def records_after_kills(
    begin: Callable[..., Running],
    folder: Path,
    ledger: Ledger,
    results: Callable[[], dict[str, Any]],
    wanted: int = KILLS,
) -> dict[str, Record]:
    """Start a command, kill it and its workers as often as wanted, and return the records of all jobs.

    `results` returns what is known of the finished jobs, which no kill may change.
    """
    # Long enough to be there for the last kill, without work for processors that other tests need.
    is_over = folder / "is_over"
    step = Moment("poslab.training.learner", "Learner", "on_train_batch_start", f"not os.path.exists({str(is_over)!r})")
    begin = partial(begin, environment=step.slowed(folder / "slow", 0.3))
    chance = random.Random(str(type(ledger)))
    kills = {"command": 0, "worker": 0}
    killed: set[str] = set()
    finished: dict[str, Any] = {}
    running = begin()
    while sum(kills.values()) < wanted:
        running.wait_until(partial(two_train, ledger, killed), seconds=300)
        time.sleep(chance.uniform(0, 2))
        records = records_of(ledger)
        killed |= {attempt.worker for record in records.values() for attempt in record.attempts}
        now = results()
        assert {key: now.get(key) for key in finished} == finished, "a finished result is missing"
        finished = now
        workers = worker_processes(running)
        if sum(kills.values()) % 5 == 0:
            kills["command"] += 1
            running.kill()
            running = begin()
        else:
            kills["worker"] += len(workers)
            for worker in workers:
                worker.kill()
        assert not psutil.wait_procs(workers, timeout=30)[1], "a worker has outlived its command"
    is_over.touch()
    last = running.wait(900)
    assert last.status == 0, last
    records = records_of(ledger)
    now = results()
    assert {key: now.get(key) for key in finished} == finished, "a finished result is missing"
    retries = sum(len(record.attempts) - 1 for record in records.values())
    assert retries >= wanted // 2, "the kills hit nobody who trained"
    return records


def assert_trained_once(run: Path) -> None:
    """Check that a run went on where it was killed: no step is recorded twice, and no directory was set aside."""
    assert (run / "metrics.json").exists()
    assert not run.with_name(f"{run.name}.damaged").exists()
    recorded = [(step, tag) for step, tag, _ in rows(run)]
    assert recorded
    assert len(recorded) == len(set(recorded))


def records_of(ledger: Ledger) -> dict[str, Record]:
    """Return the records of all jobs; none before the command has made them."""
    with contextlib.suppress(SQLAlchemyError, DamagedStorageError):
        return {key: Record.of(node) for key, node in ledger.read().items() if key != STUDY}
    return {}


def two_train(ledger: Ledger, killed: set[str]) -> bool:
    """Return whether two workers that were not killed have each taken a job and not finished it."""
    time.sleep(0.1)  # the storage has more to do than to be asked
    running = [record.running for record in records_of(ledger).values()]
    return len({attempt.worker for attempt in running if attempt is not None} - killed) == 2


def worker_processes(running: Running) -> list[psutil.Process]:
    """Return the processes of a command that take trials."""
    found = []
    for process in running.descendants():
        with contextlib.suppress(psutil.Error):  # it has ended in the meantime
            if "poslab.experiments.worker" in process.cmdline():
                found.append(process)
    return found

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
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.pool import NullPool

from poslab.experiments.study import RESULT, cell_of_trial
from poslab.experiments.tuning.attributes import RETRY_OF, WORKER
from poslab.experiments.tuning.trial_record import TrialRecord, first_attempt, recorded_failure
from poslab.runs.directory import RunDirectory
from tests.storages import POSTGRESQL

from .running import Moment, Running, rows, start_sweep
from .test_compare import start as start_comparison

KILLS = 20
N_TRIALS = 4
COMMON = ["workers=2", "trainer=cpu", "logger=[csv]", "trainer.max_steps=140", "trainer.saves=70"]


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("storage_url", ["sqlite"], indirect=True)
def test_twenty_kills_lose_no_trial_of_a_sweep(storage_url: str, tmp_path: Path, tiny: list[str]) -> None:
    arguments = [f"name={tmp_path.name}", f"storage={storage_url}", f"n_trials={N_TRIALS}", "pruner=null"]
    begin = partial(start_sweep, tmp_path, *arguments, *tiny, *COMMON)
    trials = trials_after_kills(begin, tmp_path, storage_url)

    complete = TrialRecord.of(trials, N_TRIALS).in_state(TrialState.COMPLETE)
    assert len(complete) == N_TRIALS, [(trial.number, recorded_failure(trial).reason) for trial in trials]
    assert first_attempt(complete[0]) == 0, "the default is missing"
    assert (tmp_path / "out" / "best.yaml").exists()
    for trial in complete:
        run = tmp_path / "out" / "trials" / f"{first_attempt(trial):04}"
        metrics = RunDirectory(run).metrics()
        means = [metrics[f"validation/bits_per_byte@{length}"] for length in (64, 128)]
        assert trial.value == sum(means) / 2
        assert_trained_once(run)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.needs(POSTGRESQL)
@pytest.mark.parametrize("storage_url", ["postgresql"], indirect=True)
def test_twenty_kills_lose_no_cell_of_a_comparison(storage_url: str, tmp_path: Path, tiny: list[str]) -> None:
    arguments = ["comparison=question.yaml", "output=out", f"name={tmp_path.name}", f"storage={storage_url}", "seeds=1"]
    begin = partial(start_comparison, tmp_path, *arguments, *tiny, *COMMON)
    trials = trials_after_kills(begin, tmp_path, storage_url)

    complete = [cell_of_trial(trial) for trial in trials if trial.state == TrialState.COMPLETE]
    assert len(complete) == len({cell.identity for cell in complete}), "a cell was trained twice"
    assert sum(not cell.is_trial for cell in complete) == 2
    assert sum(cell.is_trial for cell in complete) >= 4
    assert (tmp_path / "out" / "report.html").exists()
    for cell in complete:
        assert_trained_once(tmp_path / "out" / cell.directory)


def trials_after_kills(begin: Callable[..., Running], folder: Path, storage_url: str) -> list[FrozenTrial]:
    """Start a command, whose study has the name of the folder, kill it and its workers, and return all trials."""
    storage = RDBStorage(storage_url, engine_kwargs={"poolclass": NullPool})  # each command has connections enough
    # Long enough to be there for the last kill, without work for processors that other tests need.
    is_over = folder / "is_over"
    step = Moment("poslab.training.learner", "Learner", "on_train_batch_start", f"not os.path.exists({str(is_over)!r})")
    begin = partial(begin, environment=step.slowed(folder / "slow", 0.3))
    chance = random.Random(storage_url.partition(":")[0])
    kills = {"command": 0, "worker": 0}
    killed: set[str] = set()
    finished: dict[int, Any] = {}
    running = begin()
    while sum(kills.values()) < KILLS:
        running.wait_until(partial(two_train, folder.name, storage, killed), seconds=300)
        time.sleep(chance.uniform(0, 2))
        trials = trials_of(folder.name, storage)
        killed |= workers_of(trials)
        now = ended(trials)
        assert {number: now.get(number) for number in finished} == finished, "a finished result is missing"
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
    trials = trials_of(folder.name, storage)
    assert [trial.number for trial in trials] == list(range(len(trials))), "two trials have the same number"
    retries = [trial for trial in trials if RETRY_OF in trial.user_attrs]
    assert len(retries) >= KILLS // 2, "the kills hit nobody who trained"
    return trials


def assert_trained_once(run: Path) -> None:
    """Check that a run went on where it was killed: no step is recorded twice, and no directory was set aside."""
    assert (run / "metrics.json").exists()
    assert not run.with_name(f"{run.name}.damaged").exists()
    recorded = [(step, tag) for step, tag, _ in rows(run)]
    assert recorded
    assert len(recorded) == len(set(recorded))


def trials_of(name: str, storage: RDBStorage) -> list[FrozenTrial]:
    """Return the trials of a study; none before it is made."""
    with contextlib.suppress(KeyError):
        return optuna.load_study(study_name=name, storage=storage).trials
    return []


def workers_of(trials: list[FrozenTrial]) -> set[str]:
    """Return the names of the workers that have taken a trial."""
    return {trial.user_attrs[WORKER] for trial in trials if trial.user_attrs.get(WORKER)}


def two_train(name: str, storage: RDBStorage, killed: set[str]) -> bool:
    """Return whether two workers that were not killed have each taken a trial and not finished it."""
    time.sleep(0.1)  # the storage has more to do than to be asked
    running = [trial for trial in trials_of(name, storage) if trial.state == TrialState.RUNNING]
    return len(workers_of(running) - killed) == 2


def ended(trials: list[FrozenTrial]) -> dict[int, Any]:
    """Return state, values and result of the finished trials, by number."""
    return {t.number: (t.state, t.values, t.user_attrs.get(RESULT)) for t in trials if t.state.is_finished()}


def worker_processes(running: Running) -> list[psutil.Process]:
    """Return the processes of a command that take trials."""
    found = []
    for process in running.descendants():
        with contextlib.suppress(psutil.Error):  # it has ended in the meantime
            if {"poslab.experiments.tuning.worker", "poslab.experiments.worker"} & set(process.cmdline()):
                found.append(process)
    return found

"""SIGKILL to the workers and the command of a sweep that trains: no trial is lost, and nothing is done twice."""

from __future__ import annotations

import contextlib
import random
import time
from functools import partial

import optuna
import psutil
import pytest
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.pool import NullPool

from poslab.runs.directory import RunDirectory
from poslab.tuning.attributes import RETRY_OF, WORKER
from poslab.tuning.trial_record import TrialRecord, first_attempt, recorded_failure

from .running import Moment, Running, start_sweep

KILLS = 20
N_TRIALS = 4


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_twenty_kills_lose_no_trial(storage_url, tmp_path, tiny):
    storage = RDBStorage(storage_url, engine_kwargs={"poolclass": NullPool})  # each command has connections enough
    arguments = [
        *(f"name={tmp_path.name}", f"storage={storage_url}", f"n_trials={N_TRIALS}", "workers=2", "pruner=null"),
        *("trainer=cpu", *tiny, "logger=[csv]", "trainer.max_steps=140", "trainer.saves=70"),
    ]
    # Long enough to be there for the last kill, without work for processors that other tests need.
    is_over = tmp_path / "is_over"
    step = Moment("poslab.training.learner", "Learner", "on_train_batch_start", f"not os.path.exists({str(is_over)!r})")
    begin = partial(start_sweep, tmp_path, *arguments, environment=step.slowed(tmp_path / "slow", 0.3))
    chance = random.Random(storage_url.partition(":")[0])
    kills = {"command": 0, "worker": 0}
    killed: set[str] = set()
    finished: dict[int, tuple[TrialState, list[float] | None]] = {}
    running = begin()
    while sum(kills.values()) < KILLS:
        running.wait_until(partial(two_train, tmp_path.name, storage, killed), seconds=300)
        time.sleep(chance.uniform(0, 2))
        trials = trials_of(tmp_path.name, storage)
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

    trials = trials_of(tmp_path.name, storage)
    assert [trial.number for trial in trials] == list(range(len(trials))), "two trials have the same number"
    retries = [trial for trial in trials if RETRY_OF in trial.user_attrs]
    assert len(retries) >= KILLS // 2, "the kills hit nobody who trained"
    complete = TrialRecord.of(trials, N_TRIALS).in_state(TrialState.COMPLETE)
    assert len(complete) == N_TRIALS, [(trial.number, recorded_failure(trial).reason) for trial in trials]
    assert first_attempt(complete[0]) == 0, "the default is missing"
    assert (tmp_path / "out" / "best.yaml").exists()
    for trial in complete:
        metrics = RunDirectory(tmp_path / "out" / "trials" / f"{first_attempt(trial):04}").metrics()
        means = [metrics[f"validation/bits_per_byte@{length}"] for length in (64, 128)]
        assert trial.value == sum(means) / 2


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


def ended(trials: list[FrozenTrial]) -> dict[int, tuple[TrialState, list[float] | None]]:
    """Return state and values of the finished trials, by number."""
    return {trial.number: (trial.state, trial.values) for trial in trials if trial.state.is_finished()}


def worker_processes(running: Running) -> list[psutil.Process]:
    """Return the processes of a sweep that take trials."""
    found = []
    for process in running.descendants():
        with contextlib.suppress(psutil.Error):  # it has ended in the meantime
            if "poslab.tuning.worker" in process.cmdline():
                found.append(process)
    return found

"""SIGKILL at random moments, to workers and to the command itself: no trial is lost, and nothing is done twice."""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import optuna
import psutil
import pytest
from optuna.trial import FrozenTrial, TrialState

from poslab.run_directory import RunDirectory
from poslab.tuning.ledger import Ledger, first_attempt

from .running import Running, python
from .test_sweep import QUESTION

KILLS = 20
N_TRIALS = 4


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_twenty_kills_lose_no_trial(
    kind: str, storage_url: Callable[[str], str], tmp_path: Path, tiny: list[str]
) -> None:
    (tmp_path / "question.yaml").write_text(QUESTION)
    url = storage_url(kind)
    # Its trials are not finished before the last kill, so that it always has something to lose.
    arguments = [
        *("sweep=question.yaml", "output=out", f"name={tmp_path.name}", f"storage={url}", "workers=2"),
        *("pruner=null", f"n_trials={N_TRIALS}", "trainer=cpu", *tiny, "trainer.max_steps=1000", "trainer.saves=50"),
    ]
    chance = random.Random(kind)
    kills = {"command": 0, "worker": 0}
    finished: dict[int, tuple[TrialState, list[float] | None]] = {}
    running = Running(python("-m", "src.sweep", *arguments), tmp_path)
    while sum(kills.values()) < KILLS:
        running.wait_until(partial(workers_of, running), seconds=300)
        time.sleep(chance.uniform(0, 7))  # in that time some begin to train, and some do not
        workers = workers_of(running)
        victim = "command" if sum(kills.values()) % 5 == 4 or not workers else "worker"
        kills[victim] += 1
        if victim == "worker":
            chance.choice(workers).kill()
        else:
            running.kill()
            assert not psutil.wait_procs(workers, timeout=30)[1], "a worker has outlived its command"
            running = Running(python("-m", "src.sweep", *arguments), tmp_path)
        with contextlib.suppress(KeyError):  # it was killed before it made the study
            now = ended(optuna.load_study(study_name=tmp_path.name, storage=url).trials)
            assert {number: now.get(number) for number in finished} == finished, "a finished result is missing"
            finished = now
    last = running.wait(600)
    assert last.status == 0, last

    trials = optuna.load_study(study_name=tmp_path.name, storage=url).trials
    assert [trial.number for trial in trials] == list(range(len(trials))), "two trials have the same number"
    ledger = Ledger.of(trials, N_TRIALS)
    complete = ledger.in_state(TrialState.COMPLETE)
    assert sorted(map(first_attempt, complete)) == list(range(N_TRIALS)), [t.user_attrs for t in trials]
    assert (tmp_path / "out" / "best.yaml").exists()
    for trial in complete:
        metrics = RunDirectory(tmp_path / "out" / "trials" / f"{first_attempt(trial):04}").metrics()
        means = [metrics[f"validation/bits_per_byte@{length}"] for length in (64, 128)]
        assert trial.value == sum(means) / 2
    print(f"{kind}: {kills}, {len(trials) - N_TRIALS} retries")


def ended(trials: list[FrozenTrial]) -> dict[int, tuple[TrialState, list[float] | None]]:
    """Return state and values of the finished trials, by number."""
    return {trial.number: (trial.state, trial.values) for trial in trials if trial.state.is_finished()}


def workers_of(running: Running) -> list[psutil.Process]:
    """Return the processes of a sweep that take trials."""
    found = []
    for process in running.descendants():
        with contextlib.suppress(psutil.Error):  # it has ended in the meantime
            if "poslab.tuning.worker" in process.cmdline():
                found.append(process)
    return found

"""SIGKILL at random moments, to workers and to the command itself: nothing is lost, and nothing is done twice."""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Callable
from pathlib import Path

import optuna
import psutil
import pytest
from optuna.trial import FrozenTrial, TrialState

from poslab.run_directory import RunDirectory
from poslab.tuning.attributes import RETRY_OF
from poslab.tuning.ledger import Ledger, first_attempt

from .running import Running, python
from .test_sweep import QUESTION

KILLS = 20
N_TRIALS = 24


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_twenty_kills_lose_nothing(
    kind: str, storage_url: Callable[[str], str], tmp_path: Path, tiny: list[str]
) -> None:
    (tmp_path / "question.yaml").write_text(QUESTION)
    url = storage_url(kind)
    arguments = [
        *("sweep=question.yaml", "output=out", f"name={tmp_path.name}", f"storage={url}", "workers=2"),
        *("trainer=cpu", *tiny, "trainer.max_steps=40", "trainer.validations=4"),
    ]
    chance = random.Random(kind)
    running: Running | None = None
    budget, kills = N_TRIALS, 0
    finished: dict[int, tuple[TrialState, list[float] | None]] = {}
    while kills < KILLS:
        if running is None:
            running = Running(python("-m", "src.sweep", *arguments, f"n_trials={budget}"), tmp_path)
        time.sleep(chance.uniform(1, 7))
        if running.process.poll() is not None:  # it is done: it gets more to do
            assert running.wait().status == 0, running.wait()
            running, budget = None, budget + 6
            continue
        workers = [p for p in running.descendants() if _is_worker(p)]
        victim = chance.choice([psutil.Process(running.process.pid), *workers])
        victim.kill()
        kills += 1
        if victim.pid == running.process.pid:
            running.wait()
            psutil.wait_procs(workers, timeout=30)
            assert not any(worker.is_running() for worker in workers), "a worker has outlived its command"
            running = None
        with contextlib.suppress(KeyError):  # it was killed before it made the study
            now = ended(optuna.load_study(study_name=tmp_path.name, storage=url).trials)
            assert {number: now.get(number) for number in finished} == finished, "a finished result is missing"
            finished = now
    if running is not None:
        assert running.wait(300).status == 0
    last = Running(python("-m", "src.sweep", *arguments, f"n_trials={budget}"), tmp_path).wait(300)
    assert last.status == 0, last

    trials = optuna.load_study(study_name=tmp_path.name, storage=url).trials
    now = ended(trials)
    assert {number: now.get(number) for number in finished} == finished, "a finished result is missing"
    assert [trial.number for trial in trials] == list(range(len(trials))), "two trials have the same number"
    assert not [trial for trial in trials if trial.state == TrialState.RUNNING]
    firsts = [trial for trial in trials if RETRY_OF not in trial.user_attrs and trial.state.is_finished()]
    assert len(firsts) == budget
    ledger = Ledger.of(trials, budget)
    assert ledger.is_settled
    for trial in ledger.in_state(TrialState.COMPLETE):
        metrics = RunDirectory(tmp_path / "out" / "trials" / f"{first_attempt(trial):04}").metrics()
        means = [metrics[f"validation/bits_per_byte@{length}"] for length in (64, 128)]
        assert trial.value == sum(means) / 2


def ended(trials: list[FrozenTrial]) -> dict[int, tuple[TrialState, list[float] | None]]:
    """State and values of the finished trials, by number."""
    return {trial.number: (trial.state, trial.values) for trial in trials if trial.state.is_finished()}


def _is_worker(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.Error):
        return "poslab.tuning.worker" in process.cmdline()
    return False

from __future__ import annotations

import platform
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from optuna.trial import Trial, TrialState

from poslab.tuning.heartbeat import give_sign_of_life
from poslab.tuning.ledger import can_pass, is_from_outside, reason
from poslab.tuning.life import Watch, is_dead, kept_alive, locked
from poslab.tuning.study import SweepStudy

from ..storages import STORAGES
from .sweeps import joined, small_sweep

HOLDS_A_LOCK = """
import sys, time
from pathlib import Path
from poslab.tuning.life import locked
with locked(Path(sys.argv[1]), sys.argv[2]):
    print("locked", flush=True)
    time.sleep(60)
"""


OURS = f"{platform.node()}-1"
"""A worker of this machine."""


class Clock:
    """Seconds that pass when they are told to."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def taken(study: SweepStudy) -> Trial:
    trial = study.take(OURS)
    assert trial is not None
    return trial


def test_a_worker_is_dead_as_soon_as_its_process_is_killed(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLDS_A_LOCK, str(tmp_path), OURS]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "locked\n"
        assert not is_dead(tmp_path, OURS)
        process.kill()
        process.wait()

    assert is_dead(tmp_path, OURS)
    assert not is_dead(tmp_path, f"{platform.node()}-2"), "nobody knows it"


def test_a_free_lock_of_another_machine_proves_nothing(tmp_path: Path) -> None:
    (tmp_path / "another-1.lock").touch()

    assert not is_dead(tmp_path, "another-1")


def test_a_worker_that_ends_in_order_leaves_no_lock(tmp_path: Path) -> None:
    with locked(tmp_path, "worker"):
        pass

    assert list(tmp_path.iterdir()) == []


def test_the_trial_of_a_killed_worker_is_failed_at_once(tmp_path: Path) -> None:
    study = joined(small_sweep(tmp_path))
    trial = taken(study)
    (tmp_path / f"{OURS}.lock").touch()  # nobody holds it

    Watch(study, tmp_path, lost_after=60).fail_lost(study.ledger().running)

    assert study.current(trial).state == TrialState.FAIL
    assert reason(study.current(trial)) == "its worker was killed"
    assert can_pass(study.current(trial))
    assert is_from_outside(study.current(trial))


def test_a_trial_that_somebody_else_has_taken_since_is_left_alone(tmp_path: Path) -> None:
    study = joined(small_sweep(tmp_path))
    trial = taken(study)
    (tmp_path / f"{OURS}.lock").touch()
    as_it_was = study.ledger().running
    study.put_back(trial)
    again = study.take("another")
    assert again is not None

    Watch(study, tmp_path, lost_after=60).fail_lost(as_it_was)

    assert study.current(again).state == TrialState.RUNNING


@pytest.mark.parametrize("kind", ["journal", "grpc"])
def test_without_a_heartbeat_a_trial_is_lost_when_nothing_changes_for_a_while(
    kind: str, storage_url: Callable[[str], str], tmp_path: Path
) -> None:
    study = joined(small_sweep(tmp_path, storage=storage_url(kind)))
    trial, clock = taken(study), Clock()
    watch = Watch(study, tmp_path, lost_after=60, clock=clock)

    for _ in range(3):  # it lives
        clock.now += 50
        give_sign_of_life(study.storage, trial._trial_id)
        watch.fail_lost(study.ledger().running)
        assert study.current(trial).state == TrialState.RUNNING
    clock.now += 61  # it is silent
    watch.fail_lost(study.ledger().running)

    assert study.current(trial).state == TrialState.FAIL
    assert reason(study.current(trial)) == "its worker gave no sign of life for 60 seconds"


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_a_database_has_optunas_heartbeat(kind: str, storage_url: Callable[[str], str], tmp_path: Path) -> None:
    study = joined(small_sweep(tmp_path, storage=storage_url(kind), lost_after=3))
    trial = taken(study)
    watch = Watch(study, tmp_path, lost_after=3)

    watch.fail_lost(study.ledger().running)
    assert study.current(trial).state == TrialState.RUNNING
    time.sleep(5)
    watch.fail_lost(study.ledger().running)

    assert study.current(trial).state == TrialState.FAIL
    assert can_pass(study.current(trial))
    assert is_from_outside(study.current(trial))


@pytest.mark.parametrize("kind", STORAGES)
def test_a_trial_is_kept_alive_by_a_thread(kind: str, storage_url: Callable[[str], str], tmp_path: Path) -> None:
    study = joined(small_sweep(tmp_path, storage=storage_url(kind), lost_after=3))
    trial = taken(study)
    watch = Watch(study, tmp_path, lost_after=3)

    with kept_alive(study, trial, interval=0.2):
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline:
            watch.fail_lost(study.ledger().running)
            time.sleep(0.1)

    assert study.current(trial).state == TrialState.RUNNING


def test_a_trial_without_a_sign_of_life_at_all_is_lost_as_well(tmp_path: Path) -> None:
    study, clock = joined(small_sweep(tmp_path)), Clock()
    with pytest.warns(UserWarning, match="Heartbeat"):
        number = study.ask().number  # taken by somebody who was killed before he could say who he is
    watch = Watch(study, tmp_path, lost_after=60, clock=clock)

    watch.fail_lost(study.ledger().running)
    clock.now += 61
    watch.fail_lost(study.ledger().running)

    assert study.trials[number].state == TrialState.FAIL

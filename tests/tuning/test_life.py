from __future__ import annotations

import platform
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from optuna.trial import Trial, TrialState

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

    Watch(study, tmp_path).fail_lost(study.ledger().running)

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

    Watch(study, tmp_path).fail_lost(as_it_was)

    assert study.current(again).state == TrialState.RUNNING


@pytest.mark.parametrize("kind", STORAGES)
def test_a_database_has_optunas_heartbeat(kind: str, storage_url: Callable[[str], str], tmp_path: Path) -> None:
    study = joined(small_sweep(tmp_path, storage=storage_url(kind), lost_after=3))
    trial = taken(study)
    watch = Watch(study, tmp_path)

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
    watch = Watch(study, tmp_path)

    with kept_alive(study, trial, interval=0.2):
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline:
            watch.fail_lost(study.ledger().running)
            time.sleep(0.1)

    assert study.current(trial).state == TrialState.RUNNING

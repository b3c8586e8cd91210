"""Trials whose workers are dead or silent are failed, and those that live are left alone."""

from __future__ import annotations

import platform
import time

import pytest
from optuna.trial import TrialState

from poslab.experiments.pool.failure import KILLED, LOST
from poslab.experiments.pool.heartbeat import beating
from poslab.experiments.pool.locks import fail_lost
from poslab.experiments.tuning.trial_record import recorded_failure

from .sweeps import joined, small_sweep, taken

OURS = f"{platform.node()}-1"
"""A worker of this machine."""


def test_the_trial_of_a_killed_worker_is_failed_at_once(tmp_path):
    study = joined(small_sweep(tmp_path))
    trial = taken(study, OURS)
    (tmp_path / f"{OURS}.lock").touch()  # nobody holds it

    fail_lost(study, tmp_path)

    assert study.current(trial).state == TrialState.FAIL
    assert recorded_failure(study.current(trial)) == KILLED


def test_a_trial_that_somebody_else_has_taken_since_is_left_alone(tmp_path):
    study = joined(small_sweep(tmp_path))
    trial = taken(study, OURS)
    (as_it_was,) = study.record().running
    study.put_back(trial)
    again = taken(study, "another")

    study.fail(as_it_was, KILLED)

    assert study.current(again).state == TrialState.RUNNING


@pytest.mark.slow
def test_a_database_has_optunas_heartbeat(storage_url, tmp_path):
    study = joined(small_sweep(tmp_path, storage=storage_url, lost_after=3))
    trial = taken(study, OURS)

    fail_lost(study, tmp_path)
    assert study.current(trial).state == TrialState.RUNNING
    deadline = time.monotonic() + 60
    while study.current(trial).state == TrialState.RUNNING and time.monotonic() < deadline:
        time.sleep(0.1)
        fail_lost(study, tmp_path)

    assert study.current(trial).state == TrialState.FAIL
    assert recorded_failure(study.current(trial)) == LOST


@pytest.mark.slow
def test_a_trial_is_kept_alive_by_a_thread(storage_url, tmp_path):
    study = joined(small_sweep(tmp_path, storage=storage_url, lost_after=3))
    trial = taken(study, OURS)

    with beating(study, trial):
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline:
            fail_lost(study, tmp_path)
            time.sleep(0.1)

    assert study.current(trial).state == TrialState.RUNNING

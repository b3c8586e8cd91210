"""Heartbeats of running trials."""

from __future__ import annotations

import time

from optuna.storages import BaseStorage, RDBStorage

from poslab.tuning.attributes import ALIVE


def give_sign_of_life(storage: BaseStorage, trial_id: int) -> None:
    """Says that a running trial is alive: by Optuna's heartbeat where the storage has one, else by a changed attribute.

    Raises:
        UpdateFinishedTrialError: perhaps, if the trial has ended.
    """
    if isinstance(storage, RDBStorage):
        storage.record_heartbeat(trial_id)
    else:
        storage.set_trial_user_attr(trial_id, ALIVE, time.time())

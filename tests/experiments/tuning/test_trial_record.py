from __future__ import annotations

from typing import Any

import pytest
from optuna.trial import FrozenTrial, TrialState, create_trial

from poslab.experiments.pool.failure import LOST
from poslab.experiments.pool.retries import MAX_KILLS
from poslab.experiments.tuning.attributes import BEGAN_AFTER, CAN_PASS, FIRST_ATTEMPT, FROM_OUTSIDE, REASON, RETRY_OF
from poslab.experiments.tuning.trial_record import TrialRecord, begun_trials, first_attempt, is_lost, recorded_failure

RUNNING, COMPLETE, PRUNED, FAIL, WAITING = TrialState  # in Optuna's order


def trials(*states: TrialState | tuple[TrialState, dict[str, Any]]) -> list[FrozenTrial]:
    """Trials in these states, with user attributes where there are some, numbered in order."""
    made = []
    for number, given in enumerate(states):
        state, attributes = given if isinstance(given, tuple) else (given, {})
        trial = create_trial(state=state, value=1.0 if state == COMPLETE else None, user_attrs=attributes)
        trial.number = number
        made.append(trial)
    return made


def numbers(some: list[FrozenTrial]) -> list[int]:
    return [trial.number for trial in some]


def test_the_budget_counts_complete_pruned_and_failed_trials():
    record = TrialRecord.of(trials(COMPLETE, PRUNED, (FAIL, {CAN_PASS: False}), RUNNING), n_trials=5)

    assert numbers(record.finished) == [0, 1, 2]
    assert numbers(record.running) == [3]
    assert record.missing == 1
    assert not record.is_settled


def test_a_study_is_settled_when_the_budget_is_finished():
    assert TrialRecord.of(trials(COMPLETE, PRUNED), n_trials=2).is_settled
    assert not TrialRecord.of(trials(COMPLETE, RUNNING), n_trials=2).is_settled
    assert not TrialRecord.of(trials(COMPLETE), n_trials=2).is_settled


def test_a_failure_that_can_pass_is_owed_a_retry_and_is_not_finished():
    record = TrialRecord.of(trials((FAIL, {CAN_PASS: True, REASON: "killed"}), FAIL), n_trials=2)

    assert numbers(record.pending_retries) == [0, 1], "one that was lost without a word may pass as well"
    assert record.finished == []
    assert [recorded_failure(trial).reason for trial in record.pending_retries] == ["killed", LOST.reason]


def test_a_trial_is_lost_that_others_failed_for_silence():
    killed, unsaid = trials((FAIL, {REASON: "its worker was killed"}), FAIL)

    assert [is_lost(trial) for trial in (killed, unsaid)] == [False, True]


def test_a_retry_is_no_trial_of_the_budget():
    retry = (COMPLETE, {RETRY_OF: 0, FIRST_ATTEMPT: 0})
    record = TrialRecord.of(trials((FAIL, {CAN_PASS: True}), COMPLETE, retry), n_trials=2)

    assert record.is_settled
    assert numbers(record.finished) == [2, 1]
    assert [first_attempt(trial) for trial in record.finished] == [0, 1]


def chain(*attempts: dict[str, Any]) -> list[FrozenTrial]:
    """Failed attempts at trial 0 with these further attributes, in order."""
    first, *retries = ({CAN_PASS: True, REASON: "failed", **attempt} for attempt in attempts)
    pointing = ({**retry, RETRY_OF: number, FIRST_ATTEMPT: 0} for number, retry in enumerate(retries))
    return trials(*((FAIL, attributes) for attributes in (first, *pointing)))


def test_a_trial_is_retried_twice_at_most():
    assert numbers(TrialRecord.of(chain({}, {}), n_trials=1).pending_retries) == [1]
    record = TrialRecord.of(chain({}, {}, {}), n_trials=1)
    assert record.pending_retries == []
    assert record.is_settled


def test_kills_from_outside_and_failures_with_progress_between_them_are_counted_as_such():
    """The rule itself is tested in `experiments/pool/test_retries.py`."""
    killed = [{FROM_OUTSIDE: True}] * MAX_KILLS
    progressing = [{FROM_OUTSIDE: False, BEGAN_AFTER: steps} for steps in range(MAX_KILLS)]

    assert TrialRecord.of(chain(*killed), n_trials=1).pending_retries
    assert TrialRecord.of(chain(*progressing), n_trials=1).pending_retries


def test_a_budget_holds_every_trial_that_has_begun():
    assert begun_trials(trials(COMPLETE, RUNNING, (COMPLETE, {RETRY_OF: 0}), FAIL, WAITING)) == 3
    assert begun_trials(trials(COMPLETE, WAITING, PRUNED)) == 3, "one that was put back stands between them"
    assert begun_trials([]) == 0


def test_of_two_retries_of_one_trial_the_first_counts():
    retry = (WAITING, {RETRY_OF: 0, FIRST_ATTEMPT: 0})

    assert numbers(TrialRecord.of(trials((FAIL, {CAN_PASS: True}), retry, retry), n_trials=1).waiting) == [1]


def test_a_trial_beyond_the_budget_stays_waiting_until_the_budget_grows():
    too_many = trials(COMPLETE, COMPLETE, WAITING)

    assert TrialRecord.of(too_many, n_trials=2).is_settled
    assert numbers(TrialRecord.of(too_many, n_trials=3).waiting) == [2]


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)])
def test_the_account_does_not_depend_on_the_order_of_reading(order):
    read = trials(COMPLETE, (FAIL, {CAN_PASS: True}), (RUNNING, {RETRY_OF: 1, FIRST_ATTEMPT: 1}))

    record = TrialRecord.of([read[i] for i in order], n_trials=2)

    assert [numbers(chain) for chain in record.attempts] == [[0], [1, 2]]

from __future__ import annotations

from typing import Any

import pytest
from optuna.trial import FrozenTrial, TrialState, create_trial

from poslab.tuning.attributes import CAN_PASS, FIRST_ATTEMPT, REASON, RETRY_OF
from poslab.tuning.ledger import LOST, SILENT, Ledger, first_attempt, is_lost, reason

RUNNING, COMPLETE, PRUNED, FAIL, WAITING = (
    *(TrialState.RUNNING, TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL, TrialState.WAITING),
)


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


def test_the_budget_counts_complete_pruned_and_failed_trials() -> None:
    ledger = Ledger.of(trials(COMPLETE, PRUNED, (FAIL, {CAN_PASS: False}), RUNNING), n_trials=5)

    assert numbers(ledger.finished) == [0, 1, 2]
    assert numbers(ledger.running) == [3]
    assert ledger.missing == 1
    assert not ledger.is_settled


def test_a_study_is_settled_when_the_budget_is_finished() -> None:
    assert Ledger.of(trials(COMPLETE, PRUNED), n_trials=2).is_settled
    assert not Ledger.of(trials(COMPLETE, RUNNING), n_trials=2).is_settled
    assert not Ledger.of(trials(COMPLETE), n_trials=2).is_settled


def test_a_failure_that_can_pass_is_owed_a_retry_and_is_not_finished() -> None:
    ledger = Ledger.of(trials((FAIL, {CAN_PASS: True, REASON: "killed"}), FAIL), n_trials=2)

    assert numbers(ledger.owed) == [0, 1], "one that was lost without a word may pass as well"
    assert ledger.finished == []
    assert [reason(trial) for trial in ledger.owed] == ["killed", LOST]


def test_a_trial_is_lost_that_others_failed_for_silence() -> None:
    silent, killed, unsaid = trials(
        (FAIL, {REASON: f"{SILENT} for 60 seconds"}), (FAIL, {REASON: "its worker was killed"}), FAIL
    )

    assert [is_lost(trial) for trial in (silent, killed, unsaid)] == [True, False, True]


def test_a_retry_is_no_trial_of_the_budget() -> None:
    retry = (COMPLETE, {RETRY_OF: 0, FIRST_ATTEMPT: 0})
    ledger = Ledger.of(trials((FAIL, {CAN_PASS: True}), COMPLETE, retry), n_trials=2)

    assert ledger.is_settled
    assert numbers(ledger.finished) == [2, 1]
    assert [first_attempt(trial) for trial in ledger.finished] == [0, 1]


def test_a_trial_is_retried_twice_at_most() -> None:
    failed = {CAN_PASS: True}
    chain = ((FAIL, failed), (FAIL, {**failed, RETRY_OF: 0, FIRST_ATTEMPT: 0}))

    assert numbers(Ledger.of(trials(*chain), n_trials=1).owed) == [1]
    third = (FAIL, {**failed, RETRY_OF: 1, FIRST_ATTEMPT: 0})
    ledger = Ledger.of(trials(*chain, third), n_trials=1)
    assert ledger.owed == []
    assert ledger.is_settled


def test_of_two_retries_of_one_trial_the_first_counts() -> None:
    retry = (WAITING, {RETRY_OF: 0, FIRST_ATTEMPT: 0})

    assert numbers(Ledger.of(trials((FAIL, {CAN_PASS: True}), retry, retry), n_trials=1).waiting) == [1]


def test_a_trial_beyond_the_budget_stays_waiting_until_the_budget_grows() -> None:
    too_many = trials(COMPLETE, COMPLETE, WAITING)

    assert Ledger.of(too_many, n_trials=2).is_settled
    assert numbers(Ledger.of(too_many, n_trials=3).waiting) == [2]


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)])
def test_the_account_does_not_depend_on_the_order_of_reading(order: tuple[int, ...]) -> None:
    read = trials(COMPLETE, (FAIL, {CAN_PASS: True}), (RUNNING, {RETRY_OF: 1, FIRST_ATTEMPT: 1}))

    ledger = Ledger.of([read[i] for i in order], n_trials=2)

    assert [numbers(chain) for chain in ledger.attempts] == [[0], [1, 2]]

from __future__ import annotations

from typing import Any

import pytest
from optuna.trial import FrozenTrial, TrialState, create_trial

from poslab.tuning.attributes import BEGAN_AFTER, CAN_PASS, FIRST_ATTEMPT, FROM_OUTSIDE, REASON, RETRY_OF
from poslab.tuning.ledger import LOST, MOST_KILLS, Ledger, begun_trials, first_attempt, is_lost, reason

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
    killed, unsaid = trials((FAIL, {REASON: "its worker was killed"}), FAIL)

    assert [is_lost(trial) for trial in (killed, unsaid)] == [False, True]


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


def chain(*attempts: dict[str, Any]) -> list[FrozenTrial]:
    """Failed attempts at trial 0 with these further attributes, in order."""
    first, *retries = ({CAN_PASS: True, REASON: "failed", **attempt} for attempt in attempts)
    pointing = ({**retry, RETRY_OF: number, FIRST_ATTEMPT: 0} for number, retry in enumerate(retries))
    return trials(*((FAIL, attributes) for attributes in (first, *pointing)))


def is_owed(attempts: list[FrozenTrial]) -> bool:
    return bool(Ledger.of(attempts, n_trials=1).owed)


def test_kills_from_outside_are_no_failures_of_a_trial() -> None:
    killed, failed = {FROM_OUTSIDE: True}, {FROM_OUTSIDE: False}

    assert is_owed(chain(*[killed] * MOST_KILLS))
    assert is_owed(chain(*[killed] * 10, failed, failed))
    assert not is_owed(chain(*[killed] * 10, failed, failed, failed))


def test_a_trial_that_is_killed_again_and_again_without_progress_is_given_up() -> None:
    began = {FROM_OUTSIDE: True, BEGAN_AFTER: 5}

    assert not is_owed(chain(*[began] * (MOST_KILLS + 1)))


@pytest.mark.parametrize("from_outside", [True, False])
def test_a_trial_that_makes_progress_between_its_failures_is_never_given_up(from_outside: bool) -> None:
    attempts = [{FROM_OUTSIDE: from_outside, BEGAN_AFTER: steps} for steps in range(3 * MOST_KILLS)]

    assert is_owed(chain(*attempts))


def test_saved_steps_that_are_lost_and_made_again_are_no_progress() -> None:
    """As where two machines that share no directory take turns."""
    attempts = [{FROM_OUTSIDE: False, BEGAN_AFTER: steps} for steps in (0, 10, 0, 10)]

    assert not is_owed(chain(*attempts))


def test_a_budget_holds_every_trial_that_has_begun() -> None:
    assert begun_trials(trials(COMPLETE, RUNNING, (COMPLETE, {RETRY_OF: 0}), FAIL, WAITING)) == 3
    assert begun_trials(trials(COMPLETE, WAITING, PRUNED)) == 3, "one that was put back stands between them"
    assert begun_trials([]) == 0


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

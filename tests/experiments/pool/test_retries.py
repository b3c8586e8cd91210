from __future__ import annotations

import pytest

from poslab.experiments.pool.failure import Failure
from poslab.experiments.pool.retries import MAX_KILLS, MAX_RETRIES, FailedAttempt, may_retry

FAILED = Failure("it crashed", can_pass=True)
KILLED = Failure("it was killed", can_pass=True, from_outside=True)


def attempts(*failures: Failure) -> list[FailedAttempt]:
    return [FailedAttempt(failure) for failure in failures]


def test_a_failure_that_would_come_again_is_not_retried():
    assert not may_retry(attempts(Failure("the loss is not finite", can_pass=False)))


def test_a_job_that_fails_by_itself_is_retried_twice():
    assert may_retry(attempts(*[FAILED] * MAX_RETRIES))
    assert not may_retry(attempts(*[FAILED] * (MAX_RETRIES + 1)))


def test_kills_from_outside_are_counted_apart():
    assert may_retry(attempts(*[KILLED] * 10, *[FAILED] * MAX_RETRIES))
    assert not may_retry(attempts(*[KILLED] * 10, *[FAILED] * (MAX_RETRIES + 1)))


def test_a_job_that_is_killed_again_and_again_without_progress_is_given_up():
    assert may_retry([FailedAttempt(KILLED, 5)] * MAX_KILLS)
    assert not may_retry([FailedAttempt(KILLED, 5)] * (MAX_KILLS + 1))


@pytest.mark.parametrize("failure", [FAILED, KILLED])
def test_a_job_that_makes_progress_between_its_failures_is_never_given_up(failure):
    assert may_retry([FailedAttempt(failure, steps) for steps in range(3 * MAX_KILLS)])


def test_saved_steps_that_are_lost_and_made_again_are_not_progress():
    """As where two machines that share no directory take turns."""
    assert not may_retry([FailedAttempt(FAILED, steps) for steps in (0, 10, 0, 10)])

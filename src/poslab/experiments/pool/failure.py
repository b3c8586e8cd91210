"""Failures of jobs: the reason, whether another attempt may succeed, and whether the cause is outside."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from poslab.experiments.pool.deaths import is_from_outside
from poslab.runs.errors import ProcessDiedError, RunStoppedError

OUT_OF_MEMORY = ("can't allocate memory", "out of memory", "DataLoader worker")
"""Words of a RuntimeError by which torch reports that memory is short."""


@dataclass(frozen=True)
class Failure:
    """The end of a failed attempt: the reason in a few words, and whether another attempt may succeed (`can_pass`).

    `from_outside` is true if somebody else ended the worker, so that the job itself is not to blame.
    """

    reason: str
    can_pass: bool
    from_outside: bool = False


LOST = Failure("the heartbeat of its worker stopped", can_pass=True, from_outside=True)
"""Failure of a job without a heartbeat for too long."""

KILLED = Failure("its worker was killed", can_pass=True, from_outside=True)
"""Failure of a job whose worker, on this machine, ended without a report."""


def failure_of(error: Exception, outages: tuple[type[Exception], ...] = ()) -> Failure:
    """Return the failure for an error of a run; outages are errors of a storage that cannot be reached for a while."""
    signal = error.ended_by if isinstance(error, ProcessDiedError) else None
    return Failure(
        str(error) if isinstance(error, RunStoppedError | ValueError) else f"{type(error).__name__}: {error}",
        can_pass=_can_pass(error, outages),
        from_outside=signal is not None and is_from_outside(signal),
    )


def is_a_bug(error: Exception) -> bool:
    """Return whether only a bug explains an error, so that the process cannot be trusted any more."""
    return not isinstance(error, RunStoppedError | ValueError | MemoryError | torch.OutOfMemoryError | OSError)


def _can_pass(error: Exception, outages: tuple[type[Exception], ...]) -> bool:
    if isinstance(error, RunStoppedError):
        return error.resumable
    if isinstance(error, (MemoryError, torch.OutOfMemoryError, OSError, *outages)):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in OUT_OF_MEMORY)

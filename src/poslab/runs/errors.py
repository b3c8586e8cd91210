"""Errors that end a run early. A user's mistake is a ValueError, raised before anything slow starts where possible."""

from __future__ import annotations

import signal
from collections.abc import Sequence


class UntrustedRunError(ValueError):
    """A run of someone else that needs `trust=data`, besides packages that are trusted so far, for what it does."""

    def __init__(self, message: str, trust: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.trust = tuple(trust)


class RunStoppedError(RuntimeError):
    """Early end of a run; its message is one sentence for the user.

    The command ends with `exit_status`; `resumable` is True if resuming from the last checkpoint can help.
    """

    exit_status = 1
    resumable = True


class RunTakenError(ValueError):
    """A run directory that cannot begin a new run: it contains another one, or another process trains in it."""


class NonFiniteLossError(RunStoppedError):
    """Loss or gradient that is no longer a number; a resumed run would meet it again."""

    resumable = False


class ProcessDiedError(RunStoppedError):
    """Death of a process of the run, by the signal `ended_by` if there was one, after which the others were ended."""

    def __init__(self, message: str, ended_by: signal.Signals | None = None) -> None:
        super().__init__(message)
        self.ended_by = ended_by


class DiskError(RunStoppedError):
    """Disk that cannot be written; earlier saves are intact."""


class RunEndedEarlyError(RunStoppedError):
    """End of a run by its observer."""

    resumable = False


class RunInterruptedError(BaseException):
    """Stop of a run by a signal, after its state was saved.

    It can be raised anywhere, so it is not an Exception, which code on the way may catch.
    """

    resumable = True

    def __init__(self, signal_number: int) -> None:
        super().__init__(f"stopped by {signal.Signals(signal_number).name}")
        self.exit_status = 128 + signal_number

"""How a run can end early. A user's mistake is a ValueError, told before anything slow has started where it can be."""

from __future__ import annotations

import contextlib
import errno
import signal
from collections.abc import Iterator
from pathlib import Path


class RunStoppedError(RuntimeError):
    """A run ended before its end; its message is one sentence for the user.

    Attributes:
        exit_status: of the command.
        resumable: whether going on from the last checkpoint can help.
    """

    exit_status = 1
    resumable = True


class NonFiniteLossError(RunStoppedError):
    """The loss or its gradient is no longer a number; going on would meet it again."""

    resumable = False


class ProcessDiedError(RunStoppedError):
    """A process of the run died, and the others were ended.

    Args:
        message: one sentence.
        ended_by: the signal that ended it, if one did.
    """

    def __init__(self, message: str, ended_by: signal.Signals | None = None) -> None:
        super().__init__(message)
        self.ended_by = ended_by


class DiskError(RunStoppedError):
    """Nothing more could be written; what was saved is intact."""


class RunEndedEarlyError(RunStoppedError):
    """Whoever observes the run has seen enough of it."""

    resumable = False


class RunInterruptedError(BaseException):
    """The run was asked to stop; what it has learned is saved.

    A signal can raise it anywhere, so no `except Exception` on the way may take it for something else.

    Args:
        signal_number: the signal that asked.
    """

    resumable = True

    def __init__(self, signal_number: int) -> None:
        super().__init__(f"stopped by {signal.Signals(signal_number).name}")
        self.signal_number = signal_number
        self.exit_status = 128 + signal_number


@contextlib.contextmanager
def full_disk_told(directory: Path) -> Iterator[None]:
    """Within it, what fails because the disk is full is a DiskError that names this directory."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskError(f"{directory}: {error.strerror}; what was saved before is intact") from error
        raise

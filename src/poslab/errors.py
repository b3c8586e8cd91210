"""How a run can end early. A user's mistake is a ValueError, told before anything slow has started where it can be."""

from __future__ import annotations

import signal


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
    """A process of the run died, and the others were ended."""


class DiskError(RunStoppedError):
    """Nothing more could be written; what was saved is intact."""


class Interrupted(RunStoppedError):
    """The run was asked to stop; what it has learned is saved.

    Args:
        signal_number: the signal that asked.
    """

    def __init__(self, signal_number: int) -> None:
        super().__init__(f"stopped by {signal.Signals(signal_number).name}")
        self.signal_number = signal_number
        self.exit_status = 128 + signal_number

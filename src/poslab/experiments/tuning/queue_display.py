"""Progress of a queue of trials on the terminal: a line for each that ends, and a live table."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Self

from optuna.trial import FrozenTrial
from rich.console import Console, RenderableType
from rich.live import Live

from poslab.experiments.pool.supervise import supervise
from poslab.experiments.pool.workers import Workers
from poslab.experiments.tuning.queue import TrialQueue
from poslab.experiments.tuning.trial_record import AnyTrial, TrialRecord
from poslab.runs.errors import RunInterruptedError, RunStoppedError


class QueueDisplay(ABC):
    """Lines for trials that end, and a live table if the console is a terminal.

    Args:
        console: where they are printed.
        queue: of the trials.
        workers: number of those of this machine.
    """

    def __init__(self, console: Console, queue: TrialQueue, workers: int) -> None:
        self._console = console
        self._queue = queue
        self._workers = workers
        self._printed: set[int] = set()
        self._live = Live(console=console, transient=True, auto_refresh=False)

    @abstractmethod
    def counts(self, record: TrialRecord) -> str:
        """Return in words how many trials are finished, running and waiting."""

    @abstractmethod
    def line(self, trial: FrozenTrial, record: TrialRecord) -> str:
        """Return the line for a trial that has ended."""

    @abstractmethod
    def table(self, record: TrialRecord) -> RenderableType:
        """Return the live table."""

    def __enter__(self) -> Self:
        record = self._queue.record()
        self._printed = {trial.number for trial in record.all_attempts if trial.state.is_finished()}
        if record.attempts:
            self._console.print(f"resuming: {self.counts(record)}", soft_wrap=True)
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def update(self) -> None:
        """Show what has changed."""
        record = self._queue.record()
        for trial in record.all_attempts:
            if trial.state.is_finished() and trial.number not in self._printed:
                self._printed.add(trial.number)
                self._console.print(self.line(trial, record), soft_wrap=True)
        if self._live.is_started:
            self._live.update(self.table(record), refresh=True)

    def supervise(self, workers: Workers[AnyTrial], patience: float) -> None:
        """Show the trials while `supervise` trains them; arguments and errors as of that."""
        try:
            with self:
                supervise(self._queue, workers, patience, self.update)
        except (RunInterruptedError, RunStoppedError):
            self._console.print(f"{self.counts(self._queue.record())}: resume with the same command", soft_wrap=True)
            raise

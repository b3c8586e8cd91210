"""Observers of a run in training, which may end it: such as a sweep, which compares many runs."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from multiprocessing.connection import Client, Connection, Listener
from pathlib import Path

import lightning as L

from poslab.runs.errors import RunEndedEarlyError
from poslab.training.learner import Learner

Observer = Callable[[int, Mapping[str, float]], str | None]
"""A function of the step and the metrics by tag, such as `validation/loss@512`, called after each validation.

It returns a reason to end the run at once, in a few words; None continues it.
"""

SOCKET = "observer"


class ObserveValidations(L.Callback):
    """A callback that calls an observer after each validation, in process 0; all processes of the run end together."""

    def __init__(self, observer: Observer) -> None:
        self.observer = observer

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        assert isinstance(pl_module, Learner)
        if trainer.state.fn != "fit":
            return
        reason = self.observer(trainer.global_step, pl_module.metrics) if trainer.is_global_zero else None
        reason = trainer.strategy.broadcast(reason)
        if reason is not None:
            raise RunEndedEarlyError(reason)


@contextmanager
def answering(observer: Observer, directory: Path) -> Iterator[None]:
    """Serve an observer at a Unix socket in a directory to other processes, which call it by `distant_observer`.

    It is called in its own thread; an error that it raises is a reason to end the run.
    """
    over = threading.Event()
    with Listener(str(directory / SOCKET)) as listener:

        def answer() -> None:
            while True:
                connection = listener.accept()
                if over.is_set():
                    connection.close()
                    return
                _answer(connection, observer)

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            Client(str(directory / SOCKET)).close()  # wakes the thread, which closing the listener does not
            thread.join()


def _answer(connection: Connection, observer: Observer) -> None:
    with connection:
        try:
            while True:
                step, metrics = connection.recv()
                try:
                    answer = observer(step, metrics)
                except Exception as error:
                    answer = f"{type(error).__name__}: {error}"
                connection.send(answer)
        except (EOFError, ConnectionError):  # the process has ended
            return


def distant_observer(directory: Path) -> Observer | None:
    """Return a function that calls the observer served in a directory by another process; None if there is none."""
    address = directory / SOCKET
    if not address.exists():
        return None
    connections: list[Connection] = []

    def ask(step: int, metrics: Mapping[str, float]) -> str | None:
        if not connections:
            connections.append(Client(str(address)))
        connections[0].send((step, dict(metrics)))
        answer: str | None = connections[0].recv()
        return answer

    return ask

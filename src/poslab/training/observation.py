"""Somebody who looks on while a run trains, and may end it: a sweep that compares many runs."""

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
"""Takes the step and the figures by tag, such as `validation/loss@512`, after each validation.

It returns why the run shall end at once, in a few words; None lets it go on.
"""

SOCKET = "observer"


class ObserveValidations(L.Callback):
    """Asks an observer after each validation. Process 0 alone asks, and all processes of the run end together.

    Args:
        observer: whom process 0 asks; the others never call theirs.
    """

    def __init__(self, observer: Observer) -> None:
        self.observer = observer

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        assert isinstance(pl_module, Learner)
        if trainer.state.fn != "fit":
            return
        reason = self.observer(trainer.global_step, pl_module.figures) if trainer.is_global_zero else None
        reason = trainer.strategy.broadcast(reason)
        if reason is not None:
            raise RunEndedEarlyError(reason)


@contextmanager
def answering(observer: Observer, directory: Path) -> Iterator[None]:
    """Within it, `distant_observer` asks this observer from other processes of this machine.

    Args:
        observer: it is called in a thread of its own; the run ends with what it raises as the reason.
        directory: which the other processes know; a Unix socket is made there.
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
                step, figures = connection.recv()
                try:
                    answer = observer(step, figures)
                except Exception as error:
                    answer = f"{type(error).__name__}: {error}"
                connection.send(answer)
        except (EOFError, ConnectionError):  # the process has ended
            return


def distant_observer(directory: Path) -> Observer | None:
    """The observer that answers in a directory, asked from another process; None if nobody does."""
    address = directory / SOCKET
    if not address.exists():
        return None
    connections: list[Connection] = []

    def ask(step: int, figures: Mapping[str, float]) -> str | None:
        if not connections:
            connections.append(Client(str(address)))
        connections[0].send((step, dict(figures)))
        answer: str | None = connections[0].recv()
        return answer

    return ask

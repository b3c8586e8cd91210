"""Supervision of workers until all jobs have ended, or a signal comes."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from poslab.pool.locks import fail_lost
from poslab.pool.source import J, WatchedSource
from poslab.pool.workers import Workers
from poslab.runs.errors import RunInterruptedError

SECONDS_BETWEEN_LOOKS = 0.5


def supervise(source: WatchedSource[J], workers: Workers[J], patience: float, show: Callable[[], None]) -> None:
    """Keep the workers of this machine running until all jobs have ended.

    Patience is the time in seconds for which the source may be out of reach; `show` reads it and shows its jobs.

    Raises:
        RunInterruptedError: after a signal: the first one asks the workers to stop after a step, a second one ends them
            at once.
        DiskError, ProcessDiedError: as `Workers.look_after`.
    """
    reached = time.monotonic()
    with _asked_to_stop() as asked:
        try:
            while True:
                try:
                    jobs = source.jobs()
                    reached = time.monotonic()
                    show()
                    workers.look_after(jobs)
                    fail_lost(source, workers.directory)
                except source.outages:
                    if time.monotonic() - reached > patience:
                        raise
                    time.sleep(SECONDS_BETWEEN_LOOKS)
                    continue
                if asked:
                    workers.ask_to_stop()
                else:
                    workers.fill_up(most=jobs.unfinished)
                if len(asked) > 1 or not workers.alive:
                    break
                time.sleep(SECONDS_BETWEEN_LOOKS)
            show()
        finally:
            workers.kill()
    if asked:
        raise RunInterruptedError(asked[0])


@contextmanager
def _asked_to_stop() -> Iterator[list[int]]:
    """Collect signals in a list, instead of their usual effect."""
    asked: list[int] = []
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, lambda number, _: asked.append(number)) for number in numbers}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

"""Supervision of workers until all jobs have ended, or a signal comes."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from poslab.experiments.pool.locks import fail_lost
from poslab.experiments.pool.source import J, WatchedSource
from poslab.experiments.pool.workers import Workers
from poslab.runs.errors import RunInterruptedError

SECONDS_BETWEEN_LOOKS = 0.5

SHARE_OF_LOOKS = 0.05
"""Largest share of a processor for looking at jobs: with hundreds of them a look takes a tenth of a second."""


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
                begun = time.thread_time()
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
                rest = (time.thread_time() - begun) / SHARE_OF_LOOKS
                _wait(max(SECONDS_BETWEEN_LOOKS, rest), asked)
            show()
        finally:
            workers.kill()
    if asked:
        raise RunInterruptedError(asked[0])


def _wait(seconds: float, asked: list[int]) -> None:
    """Wait, until another signal comes at most."""
    end, before = time.monotonic() + seconds, len(asked)
    while len(asked) == before and (left := end - time.monotonic()) > 0:
        time.sleep(min(left, SECONDS_BETWEEN_LOOKS))


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

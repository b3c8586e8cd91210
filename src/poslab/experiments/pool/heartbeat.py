"""Heartbeats of a job, from a thread of its worker."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

from poslab.experiments.pool.source import J, JobSource


@contextlib.contextmanager
def beating(source: JobSource[J, Any], job: J) -> Iterator[None]:
    """Record heartbeats of a job in a thread."""
    over = threading.Event()

    def beat() -> None:
        while not over.wait(source.heartbeat_interval):
            with contextlib.suppress(*source.outages):  # the next heartbeat may succeed
                source.heartbeat(job)

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()

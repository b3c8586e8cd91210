"""Detection of hangs: a worker that has not written anything for too long."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from pathlib import Path


class HangDetector:
    """A watch on the directory of a job, with the longest time in seconds without anything new."""

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self._clock = clock
        self._newest = 0.0
        self._since = clock()

    def hangs(self, directory: Path | None) -> bool:
        """Return whether nothing has been written for too long; a worker without a job has no directory."""
        newest = 0.0 if directory is None else _newest(directory)
        if directory is None or newest != self._newest:
            self._newest, self._since = newest, self._clock()
        return self._clock() - self._since > self._seconds


def _newest(directory: Path) -> float:
    """Return the time of the newest file below a directory; 0 without files."""
    times = [0.0]
    for path in directory.rglob("*"):
        with contextlib.suppress(FileNotFoundError):  # it was replaced in the meantime
            times.append(path.stat().st_mtime)
    return max(times)

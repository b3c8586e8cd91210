"""Causes of a process's death: a kill from outside, or its own fault."""

from __future__ import annotations

import math
import signal
import time
from pathlib import Path

CRASHES = {signal.SIGSEGV, signal.SIGBUS, signal.SIGILL, signal.SIGFPE, signal.SIGABRT, signal.SIGTRAP, signal.SIGSYS}
"""Signals that a process gets for its own faults."""

KILL_TIMEOUT_S = 30
"""Longest time until a process that the kernel has killed gives back its memory."""


def is_from_outside(number: int) -> bool:
    """Return whether a signal that ended a process was sent by somebody else, perhaps by a kernel short of memory."""
    return number not in CRASHES


class MemoryWatch:
    """The kernel's count of processes that it killed for lack of memory.

    A count that has just grown explains a SIGKILL. If it was for another process, a job still has other attempts.
    """

    def __init__(self) -> None:
        self._kills = out_of_memory_kills()
        self._grown_at = -math.inf

    def look(self) -> None:
        """Compare the count with the previous one."""
        if (kills := out_of_memory_kills()) > self._kills:
            self._kills, self._grown_at = kills, time.monotonic()

    @property
    def was_short(self) -> bool:
        """True if the count has grown in the last seconds."""
        return time.monotonic() - self._grown_at < KILL_TIMEOUT_S


def out_of_memory_kills() -> int:
    """Return how many processes the kernel has killed for lack of memory; 0 if it does not count them."""
    counters = Path("/proc/vmstat")
    lines = counters.read_text().splitlines() if counters.is_file() else []
    return next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), 0)

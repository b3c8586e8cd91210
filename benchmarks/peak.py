"""The memory of a whole process, and the most that it has had."""

from __future__ import annotations

import resource
from pathlib import Path


def resident_bytes() -> int:
    """Return the memory of this process now."""
    return _status("VmRSS")


def resident_peak_bytes() -> int:
    """Return the most memory that this process has had."""
    return _status("VmHWM")


def _status(field: str) -> int:
    status = Path("/proc/self/status")
    if not status.is_file():  # not Linux; its peak, in bytes on macOS, has to do for both
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # What getrusage gives on Linux includes the process that started this one, before it became another program.
    (line,) = (line for line in status.read_text().splitlines() if line.startswith(field + ":"))
    return 1024 * int(line.split()[1])

"""The most memory that was held at once: by a call, and by a whole process."""

from __future__ import annotations

import os
import resource
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile
from turns import Call

os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # otherwise the profiler prints two lines a call


def peak_bytes(call: Call) -> int:
    """Return the most bytes that PyTorch held at once during a call, beyond those of before.

    On a processor that is the sum of every allocation and release that the profiler saw: exact, but without what
    libraries allocate on their own.
    """
    if torch.cuda.is_available():
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        call()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        call()
    assert profiler.profiler is not None and profiler.profiler.kineto_results is not None
    events = [event for event in profiler.profiler.kineto_results.events() if event.name() == "[memory]"]
    held = peak = 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    return peak


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

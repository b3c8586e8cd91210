"""The most memory that a call holds at once."""

from __future__ import annotations

import os
from collections.abc import Callable

import torch
from torch.profiler import ProfilerActivity, profile

os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # otherwise the profiler prints two lines a call


def peak_bytes(call: Callable[[], object], on_gpu: bool | None = None) -> int:
    """Return the most bytes that PyTorch held at once during a call, beyond those of before.

    On a processor that is the sum of every allocation and release that the profiler saw: exact, but without what
    libraries allocate on their own.

    Args:
        call: the call.
        on_gpu: whether its tensors are on a GPU; None means that they are if there is one.
    """
    if torch.cuda.is_available() if on_gpu is None else on_gpu:
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

"""Contestants take turns in one process, so that whatever else the machine does meets all of them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence

import torch

Call = Callable[[], object]


def take_turns(contestants: Mapping[str, Call], turns: int) -> dict[str, list[float]]:
    """Return the seconds of each contestant in every turn; each must have run before, for nothing here warms up.

    Every second turn is in reverse order: what one leaves in the caches does not always meet the same other.
    """
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for turn in range(turns):
        for name in list(contestants)[:: -1 if turn % 2 else 1]:
            seconds[name].append(seconds_of(contestants[name]))
    return seconds


def seconds_of(call: Call) -> float:
    """Return the seconds of a call."""
    began = now()
    call()
    return now() - began


def ratio(seconds: Sequence[float], over: Sequence[float]) -> list[float]:
    """Return lower quartile, median and upper quartile of the ratios of turns side by side."""
    ratios = [own / other for own, other in zip(seconds, over, strict=True)]
    if len(ratios) == 1:
        ratios = ratios * 2
    return [round(quartile, 4) for quartile in statistics.quantiles(ratios, n=4, method="inclusive")]


def now() -> float:
    """Return seconds, once all that was begun is done."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()

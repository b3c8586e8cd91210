"""Contestants take turns in one process, so that whatever else the machine does slows all of them."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence

from results import Row
from torch.utils.benchmark.utils.timer import timer

from poslab.experiments.speed import peak_bytes

Call = Callable[[], object]

TURN_SECONDS = 0.02
"""Shortest turn: a call that takes less is repeated in it."""

WARM_AFTER = 2.0
"""Seconds: on a CPU, where nothing is compiled, a call that takes longer is not run again before it is measured."""

MIN_TURNS = 3


def figures(
    calls: Mapping[str, Call],
    over: Mapping[str, str],
    turns: int,
    device: str | None = None,
    limit: float = math.inf,
    left_out: Mapping[str, str] | None = None,
) -> list[Row]:
    """Return a row for each contestant: the median seconds of its turns, and their ratios to other contestants.

    One that fails, as where memory ends, has the reason in its row and no figures.

    Args:
        calls: contestants.
        over: for each key of a row, the contestant that its ratio is over; of one that is left out there is no ratio.
        turns: of each; fewer (but 3) where they would take longer than `limit` together.
        device: where the peak memory of the first call is measured; None does not measure it.
        limit: seconds of a call above which it is left out.
        left_out: contestants that are known to fail, and why.
    """
    left_out = dict(left_out or {})
    first: dict[str, float] = {}
    rows: dict[str, Row] = {}
    for name, call in calls.items():
        try:
            began = timer()
            rows[name] = {} if device is None else {"peak_bytes": peak_bytes(call, device == "cuda")}
            call_seconds = timer() - began
            if device != "cpu" or call_seconds < WARM_AFTER:
                call_seconds = seconds_of(call)
            if call_seconds > limit:
                left_out[name] = f"takes {call_seconds:.0f} s a call"
            else:
                first[name] = call_seconds
        except RuntimeError as error:
            left_out[name] = f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
    if first and math.isfinite(limit):
        turns = max(min(MIN_TURNS, turns), min(turns, int(limit // sum(first.values()))))
    repeats = {name: max(1, math.ceil(TURN_SECONDS / max(seconds, 1e-9))) for name, seconds in first.items()}
    seconds = take_turns({name: calls[name] for name in first}, turns, repeats)
    for name, turn_seconds in seconds.items():
        rows[name] |= {"seconds": round(statistics.median(turn_seconds), 6), "turns": turns}
        rows[name] |= {key: ratio(turn_seconds, seconds[other]) for key, other in over.items() if other in seconds}
    return [{"contestant": name, **rows[name]} for name in first] + [
        {"contestant": name, "left_out": reason} for name, reason in left_out.items()
    ]


def take_turns(
    contestants: Mapping[str, Call], turns: int, repeats: Mapping[str, int] | None = None
) -> dict[str, list[float]]:
    """Return the seconds of each contestant in every turn; each must have run before, for nothing here warms up.

    Each round begins with another contestant, every second one in reverse order: what one leaves in the caches does not
    always meet the same other.
    """
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for turn in range(turns):
        first = turn // 2 % max(1, len(contestants))
        order = [*list(contestants)[first:], *list(contestants)[:first]]
        for name in order[:: -1 if turn % 2 else 1]:
            seconds[name].append(seconds_of(contestants[name], 1 if repeats is None else repeats[name]))
    return seconds


def seconds_of(call: Call, repeats: int = 1) -> float:
    """Return the mean seconds of a call, once all that it began on a GPU is done."""
    began = timer()
    for _ in range(repeats):
        call()
    return (timer() - began) / repeats


def ratio(seconds: Sequence[float], over: Sequence[float]) -> list[float]:
    """Return lower quartile, median and upper quartile of the ratios of turns of the same round."""
    ratios = [numerator / denominator for numerator, denominator in zip(seconds, over, strict=True)]
    if len(ratios) == 1:
        ratios = ratios * 2
    return [round(quartile, 4) for quartile in statistics.quantiles(ratios, n=4, method="inclusive")]

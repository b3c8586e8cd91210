"""Leave out calls that would not fit into memory or take too long, with the reason."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import psutil
from turns import Call, seconds_of

from poslab.experiments.speed import peak_bytes

PROBES = (512, 1024)
"""Lengths that always fit. What grows with T and with T^2 is known from two of them."""


@dataclass
class Affordable:
    """The calls of one kind at growing lengths, as far as they can be afforded.

    Args:
        make: the call at a length.
        seconds: how long one run may take.
    """

    make: Callable[[int], Call]
    seconds: float
    _probed: list[tuple[float, float]] = field(default_factory=list)

    def reason_against(self, length: int) -> str | None:
        """Return the reason to leave out the call at a length; None if there is none."""
        if length <= PROBES[-1]:
            return None
        if not self._probed:
            for probe in PROBES:
                call = self.make(probe)
                peak = float(peak_bytes(call))
                self._probed.append((seconds_of(call), peak))
        (short, long) = self._probed
        took, held = (_continued(first, second, length) for first, second in zip(short, long, strict=True))
        available = 0.8 * psutil.virtual_memory().available
        if held > available:
            return f"would hold about {held / 2**30:.0f} GiB, where {available / 2**30:.0f} are free"
        if took > 2 * self.seconds:  # an estimate; what it lets through is timed
            return f"would take about {took:.0f} s a run"
        return None


def _continued(first: float, second: float, length: int) -> float:
    """Return the value a T + b T^2 at a length, fitted through those at the probes."""
    short, long = PROBES
    quadratic = max(0.0, (second / long - first / short) / (long - short))
    return (second / long + quadratic * (length - long)) * length

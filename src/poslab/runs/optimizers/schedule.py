"""The learning rate over a run."""

from __future__ import annotations

import math
from typing import Literal

Schedule = Literal["cosine", "linear", "constant", "warmup_stable_decay"]
"""Shape of the learning rate after the warm-up.

- `cosine`: half a cosine down to the last learning rate (Loshchilov, Hutter, ICLR 2017).
- `linear`: a line down to it.
- `constant`: no change.
- `warmup_stable_decay`: no change, then a line down to it over the last steps (Hu et al., "MiniCPM", COLM 2024).
"""


def fraction_left(schedule: Schedule, progress: float, decay: float) -> float:
    """Return the share of the way from the last learning rate to the highest, in [0, 1].

    Args:
        schedule: shape.
        progress: share of the steps after the warm-up that are over, in [0, 1].
        decay: share of these steps in which `warmup_stable_decay` falls, in (0, 1].
    """
    if schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * progress))
    if schedule == "linear":
        return 1 - progress
    if schedule == "constant":
        return 1.0
    return min(1.0, (1 - progress) / decay)

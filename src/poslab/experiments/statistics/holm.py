"""Holm's adjustment of p-values that are read together."""

from __future__ import annotations

import gc
from collections.abc import Sequence

import numpy as np
from statsmodels.stats.multitest import multipletests


def holm(p_values: Sequence[float]) -> np.ndarray:
    """Return p-values, each in [0, 1] and at least one, adjusted by Holm's method.

    Source: Holm, A Simple Sequentially Rejective Multiple Test Procedure (1979), by statsmodels.
    """
    gc.freeze()  # statsmodels collects garbage at each call: half a second beside all that a report has imported
    try:
        return np.asarray(multipletests(p_values, method="holm")[1])
    finally:
        gc.unfreeze()

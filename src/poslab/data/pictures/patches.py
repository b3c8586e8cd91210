"""Patches of a picture.

Dimension letters: H height, W width, C numbers of a pixel, T patches, P numbers of a patch.
"""

from collections.abc import Sequence

import numpy as np


def patches_of(picture_HWC: np.ndarray, patch: int) -> np.ndarray:
    """Return the patches of a picture, row after row, (T, P); P is `patch * patch * C`, its pixels row after row.

    H and W are multiples of `patch`, the side of a patch.
    """
    height, width, channels = picture_HWC.shape
    cells = picture_HWC.reshape(height // patch, patch, width // patch, patch, channels)
    return cells.swapaxes(1, 2).reshape(-1, patch * patch * channels)


def normalised(patches_TP: np.ndarray, mean: Sequence[float], deviation: Sequence[float]) -> np.ndarray:
    """Return patches in float32, less the mean of each number of a pixel and divided by its deviation, (T, P)."""
    pixels = patches_TP.shape[-1] // len(mean)
    mean_P, deviation_P = (np.tile(np.array(x, np.float32), pixels) for x in (mean, deviation))
    scaled: np.ndarray = (patches_TP - mean_P) / deviation_P
    return scaled

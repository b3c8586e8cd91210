"""Patches of a picture.

Dimension letters: H height, W width, C numbers of a pixel, T patches, P numbers of a patch.
"""

import numpy as np


def patches_of(picture_HWC: np.ndarray, patch: int) -> np.ndarray:
    """Return the patches of a picture, row after row, (T, P); P is `patch * patch * C`, its pixels row after row.

    H and W are multiples of `patch`, the side of a patch.
    """
    height, width, channels = picture_HWC.shape
    cells = picture_HWC.reshape(height // patch, patch, width // patch, patch, channels)
    return cells.swapaxes(1, 2).reshape(-1, patch * patch * channels)

"""Patches of an array. Dimension letters: A axes, C values of a place, T patches, P values of a patch."""

import math
from collections.abc import Sequence

import numpy as np


def patches_of(array: np.ndarray, patch: Sequence[int]) -> np.ndarray:
    """Return the patches of an array, (T, P), in the order of rows: the last axis counts fastest.

    Args:
        array: (n_1, ..., n_A, C), such as a picture, whose axes are height and width.
        patch: sides of a patch, A integers, of each of which n is a multiple. P is their product times C.
    """
    axes = range(len(patch))
    cells = [size // side for size, side in zip(array.shape, patch, strict=False)]
    split = array.reshape(*(n for pair in zip(cells, patch, strict=True) for n in pair), -1)
    order = [*(2 * axis for axis in axes), *(2 * axis + 1 for axis in axes), 2 * len(patch)]
    return split.transpose(order).reshape(math.prod(cells), -1)


def normalised(patches_TP: np.ndarray, mean: Sequence[float], deviation: Sequence[float]) -> np.ndarray:
    """Return patches in float32, less the mean of each value of a place and divided by its deviation, (T, P)."""
    places = patches_TP.shape[-1] // len(mean)
    mean_P, deviation_P = (np.tile(np.array(x, np.float32), places) for x in (mean, deviation))
    scaled: np.ndarray = (patches_TP - mean_P) / deviation_P
    return scaled

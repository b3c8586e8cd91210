"""Scores of distances as scores of keys. Dimension letters: B batch, H heads, R query rows, S keys, N columns."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional


def pick(scores_BHRN: Tensor, index: Tensor) -> Tensor:
    """Return the score of each query and key, (B, H, R, S), given the score of each query and table row.

    `index` is the table row of each query and key, (1 or B, 1, R, S) int64.
    """
    return scores_BHRN.gather(-1, index.expand(*scores_BHRN.shape[:-1], -1))


def skew(scores_BHRN: Tensor, num_keys: int) -> Tensor:
    """Shift scores (..., R, N) of R neighbouring queries and descending distances to their S keys, without any index.

        skew(scores)[r, j] = scores[r, R - 1 - r + j]

    Column 0 is the distance of the last query to the first key, and each next column is one less. Keys past the last
    column (N < R + S - 1: those ahead of a causal query) get 0.

    Source: the skewing of Huang et al., "Music Transformer" (ICLR 2019), section 3.4.1, for any rows and keys.
    """
    num_rows, num_distances = scores_BHRN.shape[-2:]
    # In flat storage with R + S numbers to a row, the wanted part of row r begins at R - 1 + r * (R + S - 1), as in a
    # matrix whose rows are one shorter.
    width = num_rows + num_keys
    flat = functional.pad(scores_BHRN, (0, width - num_distances)).flatten(-2)[..., num_rows - 1 : -1]
    return flat.unflatten(-1, (num_rows, width - 1))[..., :num_keys]

"""BEiT's learned bias for each offset on a grid, and for class tokens. Dimension letters: H heads, N offsets."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from poslab.arguments import Count
from poslab.encodings.bias.relative_table import RelativeTable


class BeitBias(RelativeTable):
    """Relative position bias of BEiT: a table of offsets, and three numbers per head for tokens without a position.

        logit(i, j) = q_i . k_j / sqrt(D) + table[i_1 - j_1, ..., i_A - j_A, h]    if both have coordinates
        logit(i, j) = q_i . k_j / sqrt(D) + without_position[c, h]                          else

    where c is 0 if only the query is without a position, 1 if only the key is, and 2 if both are. Class tokens and
    registers have none.

    Use it when `RelativeTable` suits and the model has a class token (`model.registers=1`, `model.pooling=first`): each
    head learns how much patches attend to it, and it to them.

    Args:
        num_heads: heads H.
        grid: number of cells on each axis of the grid of training, at least two axes (BEiT: [14, 14]; each at least 1).

    Parameters, for each layer its own: `table` (N, H), as in `RelativeTable`, and `without_position` (3, H), which all
    class tokens and registers share; both begin at 0, as in BEiT's code.

    Causal and bidirectional. Smaller and larger grids, texts and costs are as in `RelativeTable`; numbers of tokens
    without a position are the same at every size.

    Traps: without such tokens `without_position` has no gradient, an error on several devices. transformers reads a
    table with height and width swapped where it resizes one that is not square.

    Raises:
        ValueError: for an argument out of its range, a grid of one axis included.

    Source: Bao et al., "BEiT" (ICLR 2022), and its code.
    """

    def __init__(self, num_heads: Count, grid: Sequence[Count] = (14, 14)) -> None:
        if len(grid) < 2:  # tokens on one axis are in storage order, where each has a position
            raise ValueError(f"grid must have cells on at least two axes, got {list(grid)}")
        super().__init__(num_heads, grid)
        nn.init.zeros_(self.table)
        self.without_position = nn.Parameter(torch.zeros(3, num_heads))

    def bias_without_position(self) -> Tensor:
        return self.without_position.to(torch.float32).T

"""SHAPE: positions that begin anywhere."""

from __future__ import annotations

import dataclasses
from typing import Annotated

import torch

from poslab.arguments import NOT_HUGE, Range
from poslab.encodings.positions import Positions
from poslab.encodings.sampling.base import PositionSampler


class Shifted(PositionSampler):
    """Random first position of each text of a training batch (SHAPE), so that an absolute encoding ignores the shift.

        p' = p + k,    k ~ U{0, ..., max_shift}, one for each row of a training batch; evaluation has k = 0

    Args:
        max_shift: largest shift K, at least 0, which never shifts (paper: 500).

    Does nothing to a relative encoding. Contiguous positions stay so, with the routes that they allow. A table of
    learned positions needs `max_shift` rows more than the training length; those are trained, so that texts may be
    longer by as much. Claimed: as good as relative positions, and better on longer texts than without. Costs nothing.

    Trap: the authors' code draws k below K, not up to it, and evaluates from position K on; this follows the paper.

    Source: Kiyono et al., "SHAPE: Shifted Absolute Position Embedding for Transformers" (EMNLP 2021), section 3.
    """

    def __init__(self, max_shift: Annotated[int, Range(at_least=0), NOT_HUGE] = 500) -> None:
        super().__init__()
        self.max_shift = max_shift

    def forward(self, positions: Positions, batch_size: int) -> Positions:
        self.refuse_places(positions)
        if not self.training:
            return positions
        shift = torch.randint(self.max_shift + 1, (batch_size, 1), device=positions.ids.device)
        # Every row has the stop of the largest shift: the draw is not read, and the difference of two stops, of which
        # tables of distances are made, is right within one draw.
        return dataclasses.replace(positions, ids=positions.ids + shift, stop=self.stop(positions.stop))

    def stop(self, length: int) -> int:
        return length + self.max_shift

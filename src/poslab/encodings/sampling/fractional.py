"""Random float sampling: positions as shares of the whole text."""

from __future__ import annotations

from dataclasses import replace

import torch

from poslab.arguments import Count
from poslab.encodings.positions import Positions
from poslab.encodings.sampling.base import PositionSampler


class Fractional(PositionSampler):
    """Random real positions between 0 and the training length, which a longer text divides more finely (RFS).

        p' = L u_p,    u = n uniform numbers in [0, 1) in ascending order              in training, for each row
        p' = (p + 1/2) L / max(n, L)                                                   in evaluation

    n is the number of tokens of a row. Training draws all distances, so that the smaller ones of a longer text are not
    new.

    Args:
        training_length: L, length of the longest training text; up to it, evaluation has p + 1/2.

    For encodings that accept real positions; a learned table refuses them. Beyond L, and in training, positions are not
    contiguous, and a bias of distance goes blockwise. Claimed: longer texts are read without further training. Costs a
    random number for each position, and a sort.

    Traps:
    - The paper's positions are in [0, 1); these are L times as far apart, for the frequencies and slopes that encodings
      have.
    - In a padded batch n is the number of tokens of its longest row, so that a short one is read otherwise beside a
      long one than alone.
    - Documents of a packed row, and rows with padding, have the first positions of a draw for the whole row.
    - Decoding continues one by one from the last position of the prompt. Beyond L the paper would move all tokens
      closer together with each new one.

    Source: Shimizu, Taniguchi, Matsuo, "Position Encoding with Random Float Sampling Enhances Length Generalization of
    Transformers" (EACL Findings 2026).
    """

    real = True
    reads_longest_row = True

    def __init__(self, training_length: Count) -> None:
        super().__init__()
        self.training_length = training_length

    def forward(self, positions: Positions, batch_size: int) -> Positions:
        self.refuse_places(positions)
        length = positions.stop
        if not self.training:
            ids = (positions.ids + 0.5) * (self.training_length / max(length, self.training_length))
            contiguous = positions.contiguous and length <= self.training_length
            return replace(positions, ids=ids, contiguous=contiguous)
        drawn_BT = torch.rand(batch_size, length, device=positions.ids.device, dtype=torch.float32).sort().values
        ids = (drawn_BT * self.training_length).gather(1, positions.ids.expand(batch_size, -1))
        return replace(positions, ids=ids, stop=self.stop(length), contiguous=False)

    def stop(self, length: int) -> int:
        return max(length, self.training_length) + 1  # one more, since a position is rounded to float32

"""Randomized positions: a random ordered subset of a longer range."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import torch
from torch import Tensor

from poslab.arguments import Count, Range
from poslab.encodings.positions import Positions
from poslab.encodings.sampling.base import PositionSampler


class Randomized(PositionSampler):
    """Random ordered subset of many more positions, so that training covers the positions of longer texts.

        p' = I[p],    I = n of the positions 0, ..., max_position - 1, without replacement, in ascending order

    n is the number of tokens of a row. In training each forward pass draws one I for all its rows, as the authors' code
    does. Evaluation draws from its own generator: rows of one width, padding included, always have the same positions.

    Args:
        max_position: number N of positions to draw from (paper: 2,048 for training on 40 tokens), at least the length
            of every text, in evaluation too; it is the sampler's `max_length`.
        seed: seed of the draws of evaluation, at least 0.

    For any encoding that reads positions; a learned table needs `max_position` rows. The ids are no longer contiguous,
    so a bias of distance goes blockwise. Claimed: accuracy on algorithmic tasks far beyond the training length, up to
    `max_position`. A draw costs O(N log N).

    Traps:
    - Distance is the difference of the drawn ids, for every encoding. The authors do so for absolute encodings and
      rotary, but draw anew in each layer for rotary; for ALiBi and relative encodings they draw distances instead.
    - A document of a packed row has the first ids of a draw for the whole row, so it is denser, on average, than alone.
    - Decoding continues one by one from the last id of the prompt, which is likely to be near `max_position`, and may
      pass it; a learned table then needs as many more rows.

    Raises:
        ValueError: for an argument out of its range, or for a text of more than `max_position` tokens.

    Source: Ruoss et al., "Randomized Positional Encodings Boost Length Generalization of Transformers" (ACL 2023),
    section 3.
    """

    bounded_by = "max_position"
    reads_longest_row = True

    def __init__(
        self, max_position: Count = 2_048, seed: Annotated[int, Range(at_least=0), Range(at_most=2**63 - 1)] = 0
    ) -> None:
        super().__init__()
        self.max_position = self.max_length = max_position
        self.seed = seed

    def forward(self, positions: Positions, batch_size: int) -> Positions:
        self.refuse_places(positions)
        if positions.stop > self.max_position:
            raise ValueError(
                f"max_position={self.max_position} positions are too few for a text of {positions.stop} tokens, whose "
                "max_length they are; train with a larger max_position"
            )
        device = positions.ids.device
        if self.training:
            drawn, stop = torch.randperm(self.max_position, device=device), self.max_position
            drawn = drawn[: positions.stop].sort().values
        else:
            drawn, stop = _evaluation_draw(self.max_position, positions.stop, self.seed)
        return replace(positions, ids=drawn.to(device)[positions.ids], stop=stop, contiguous=False)

    def stop(self, length: int) -> int:
        return self.max_position


def _evaluation_draw(max_position: int, count: int, seed: int) -> tuple[Tensor, int]:
    """Return `count` ascending positions, drawn on the CPU to be the same on every device, and their stop."""
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randperm(max_position, generator=generator)[:count].sort().values
    return drawn, int(drawn[-1]) + 1 if count else 0

"""PoSE: chunks of a short text at the positions of a long one."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import torch
from torch import Tensor

from poslab.arguments import NOT_HUGE, Count, Range
from poslab.encodings.positions import Positions
from poslab.encodings.sampling.base import PositionSampler

USUAL_FACTOR = 4
"""Default factor of the scalings of rotary, by which PoSE stretches too."""


class Pose(PositionSampler):
    """Chunks of each training text moved apart (PoSE), so that short texts have the distances of long ones.

        p' = p + u_c    in chunk c;    u_0 = 0,  u_c ~ U{u_(c-1), ..., target_length - n}

    n is the number of tokens of a row. All chunks but the last have ~ U{1, ..., ceil(n / chunks)} tokens, and the last
    has the rest. Lengths and skips u are drawn for each row. Evaluation leaves the positions as they are.

    Args:
        target_length: number of positions that training covers, at least the length of every training text (paper:
            8,192 to 131,072, for training on 2,048 tokens); None is 4 times that of each batch, and in a run what the
            encoding reaches.
        chunks: number of chunks, at least 2 (paper: 2).

    Chunks of 3, 3 and 2 of 8 tokens under target_length=16 have the positions 0 1 2 | 6 7 8 | 14 15 if u = 0, 3, 8.

    For any encoding that reads positions; a learned table needs `target_length` rows. The ids are no longer contiguous,
    so a bias of distance goes blockwise. Claimed: a pretrained model reads texts of `target_length` tokens after a
    short training in its old window. Costs a few random numbers for each row.

    Traps:
    - The text itself has no gap: the first token of a chunk follows the last one of the chunk before. The authors skip
      text there too, and find that it makes little difference.
    - Scalings that depend on the length see `target_length` in training; temperatures count the keys that there are.
    - Documents of a packed row share chunks and skips, so that a short one has a gap only if it reaches the second
      chunk of the longest.

    Raises:
        ValueError: for an argument out of its range, or for a training text of more than `target_length` tokens.

    Source: Zhu et al., "PoSE: Efficient Context Window Extension of LLMs via Positional Skip-wise Training" (ICLR
    2024), section 3.2; the lengths of chunks, which it leaves open, are those of the authors' code.
    """

    bounded_by = "target_length"
    reads_longest_row = True

    def __init__(
        self, target_length: Count | None = None, chunks: Annotated[int, Range(at_least=2), NOT_HUGE] = 2
    ) -> None:
        super().__init__()
        self.target_length = target_length
        self.chunks = chunks

    def forward(self, positions: Positions, batch_size: int) -> Positions:
        self.refuse_places(positions)
        if not self.training:
            return positions
        target = self.stop(positions.stop)
        if self.target_length is not None and positions.stop > self.target_length:
            raise ValueError(
                f"target_length={self.target_length} positions are too few for a training text of {positions.stop} "
                "tokens"
            )
        ids_BT = positions.ids.expand(batch_size, -1)
        length_B1 = ids_BT.amax(1, keepdim=True) + 1
        end_B1, skip_B1, moved_BT = torch.zeros_like(length_B1), torch.zeros_like(length_B1), ids_BT
        for _ in range(self.chunks - 1):
            end_B1 = end_B1 + 1 + _below((length_B1 + self.chunks - 1) // self.chunks)
            further_B1 = _below(target - length_B1 - skip_B1 + 1)
            skip_B1 = skip_B1 + further_B1
            moved_BT = moved_BT + torch.where(ids_BT >= end_B1, further_B1, 0)
        return replace(positions, ids=moved_BT, stop=self.stop(positions.stop), contiguous=False)

    def stop(self, length: int) -> int:
        return USUAL_FACTOR * length if self.target_length is None else max(length, self.target_length)


def _below(end_B1: Tensor) -> Tensor:
    """Return a random integer of 0, ..., end - 1 for each row, equally likely up to 1 part in 10^9."""
    return torch.randint(2**62, end_B1.shape, device=end_B1.device) % end_B1

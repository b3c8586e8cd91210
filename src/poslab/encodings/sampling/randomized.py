"""Samplers that draw positions at random in training. Dimension letters: B batch, T tokens."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated

import torch
from torch import Tensor

from poslab.arguments import NOT_EXTREME, NOT_HUGE, Count, Range
from poslab.encodings.positions import Positions
from poslab.encodings.sampling.base import PositionSampler


def uniform(shape: Sequence[int], limit: float, device: torch.device) -> Tensor:
    """Return uniform numbers from -limit to limit, float32."""
    return (2 * torch.rand(shape, device=device, dtype=torch.float32) - 1) * limit


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
      rotary, but draw again in each layer for rotary; for ALiBi and relative encodings they draw distances instead.
    - A document of a packed row has the first ids of a draw for the whole row, so it is denser than unpacked.
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
        count, stop, device = positions.stop, self.max_position, positions.ids.device
        if self.training:
            drawn = torch.randperm(self.max_position, device=device)[:count].sort().values
        else:  # on the CPU, to be the same on every device
            generator = torch.Generator().manual_seed(self.seed)
            drawn = torch.randperm(self.max_position, generator=generator)[:count].sort().values
            stop = int(drawn[-1]) + 1 if count else 0
        return replace(positions, ids=drawn.to(device)[positions.ids], stop=stop, contiguous=False)

    def stop(self, length: int) -> int:
        return self.max_position


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


Shift = Annotated[float, Range(at_least=0), NOT_EXTREME]
Stretch = Annotated[float, Range(at_least=1), NOT_EXTREME]


class Cape(PositionSampler):
    """Random real positions in training: shifted, jittered and stretched (CAPE).

        p' = (p + shift + jitter_p) * exp(s)

        shift ~ U(-max_global_shift, max_global_shift)          one for each row of a training batch
        jitter_p ~ U(-max_local_shift, max_local_shift)         one for each position of a row
        s ~ U(-log(max_scale), log(max_scale))                  one for each row

    Evaluation leaves the positions as they are.

    Args:
        max_global_shift: in positions, at least 0 (paper, text: 5).
        max_local_shift: in positions, at least 0 (paper, text: 0.5). Above 0.5, neighbours may change places.
        max_scale: largest stretch, and the inverse of the smallest, at least 1 (paper, text: 1.03).

    For encodings that accept real positions; a learned table raises an error for them. With a relative encoding the
    shift does nothing, the other two do. Positions may be negative. Unless only the shift is on, they are not
    contiguous, and a bias of distance goes blockwise. Claimed: an absolute encoding behaves like a relative one, and is
    better on lengths that it was not trained on. Costs two random numbers for each row, and one for each position.

    Left out: the paper's optional subtraction of the mean position, which shows causal tokens the length of the text.

    Traps: scaling comes after shifting. `max_local_shift` is the paper's, to either side, as in Demucs; gcambara/cape
    gives that name to the whole width. Jitter belongs to a position, not to a token: all padding at 0 stays at one
    place, and documents of a packed row share it.

    Source: Likhomanenko et al., "CAPE: Encoding Relative Positions with Continuous Augmented Positional Embeddings"
    (NeurIPS 2021), section 3.
    """

    real = True

    def __init__(self, max_global_shift: Shift = 5.0, max_local_shift: Shift = 0.5, max_scale: Stretch = 1.03) -> None:
        super().__init__()
        self.max_global_shift = max_global_shift
        self.max_local_shift = max_local_shift
        self.max_scale = max_scale

    def forward(self, positions: Positions, batch_size: int) -> Positions:
        self.refuse_places(positions)
        if not self.training:
            return positions
        device = positions.ids.device
        shift = uniform((batch_size, 1), self.max_global_shift, device)
        jitter = uniform((batch_size, positions.stop), self.max_local_shift, device)
        log_scale = uniform((batch_size, 1), math.log(self.max_scale), device)
        ids = positions.ids.expand(batch_size, -1)
        moved = (ids + shift + jitter.gather(1, ids)) * log_scale.exp()
        only_shifted = self.max_local_shift == 0 and self.max_scale == 1
        contiguous = positions.contiguous and only_shifted
        return replace(positions, ids=moved, stop=self.stop(positions.stop), contiguous=contiguous)

    def stop(self, length: int) -> int:
        # One more than float64 gives, since an id is rounded to float32.
        return math.ceil((length - 1 + self.max_global_shift + self.max_local_shift) * self.max_scale) + 1


class Fractional(PositionSampler):
    """Random real positions between 0 and the training length, which a longer text divides more finely (RFS).

        p' = L u_p,    u = n uniform numbers in [0, 1) in ascending order              in training, for each row
        p' = (p + 1/2) L / max(n, L)                                                   in evaluation

    n is the number of tokens of a row. Training draws all distances, so that the smaller ones of a longer text are not
    new.

    Args:
        training_length: L, length of the longest training text; up to it, evaluation has p + 1/2.

    For encodings that accept real positions; a learned table raises an error for them. Beyond L, and in training,
    positions are not contiguous, and a bias of distance goes blockwise. Claimed: longer texts are read without further
    training. Costs a random number for each position, and a sort.

    Traps:
    - The paper's positions are in [0, 1); these are L times as far apart, for the frequencies and slopes that encodings
      have.
    - In a padded batch n is the number of tokens of its longest row, so that a short one is read otherwise next to a
      long one than by itself.
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


USUAL_FACTOR = 4  # default factor of the scalings of rotary, by which PoSE stretches too


class Pose(PositionSampler):
    """Chunks of each training text moved apart (PoSE), so that short texts have the distances of long ones.

        p' = p + u_c    in chunk c;    u_0 = 0,  u_c ~ U{u_(c-1), ..., target_length - n}

    n is the number of tokens of a row. All chunks but the last have ~ U{1, ..., ceil(n / chunks)} tokens, and the last
    has the rest. Lengths and skips u are drawn for each row. Evaluation leaves the positions as they are.

    Args:
        target_length: number of positions that training covers, at least the length of every training text (paper:
            8,192 to 131,072, for training on 2,048 tokens); None is 4 times each batch's length, and in a run what the
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
    2024), section 3.2; the lengths of chunks, which it leaves open, follow the authors' code.
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

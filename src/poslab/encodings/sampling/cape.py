"""CAPE: positions shifted, jittered and stretched at random."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Annotated

from poslab.arguments import NOT_EXTREME, Range
from poslab.encodings.positions import Positions
from poslab.encodings.sampling.base import PositionSampler
from poslab.encodings.sampling.uniform import uniform

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

    For encodings that accept real positions; a learned table refuses them. With a relative encoding the shift does
    nothing, the other two do. Positions may be negative. Unless only the shift is on, they are no longer contiguous,
    and a bias of distance goes blockwise. Claimed: an absolute encoding behaves like a relative one, and is better on
    lengths that it was not trained on. Costs two random numbers for each row, and one for each of its positions.

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

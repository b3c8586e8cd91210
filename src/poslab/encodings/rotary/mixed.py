"""RoPE-Mixed: rotations whose learned frequencies mix the axes.

Dimension letters: H query heads, G key-value heads, T positions, D head dim, A axes, P channel pairs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import torch
from torch import Tensor, nn

from poslab.arguments import NOT_HUGE, Count, Range
from poslab.encodings.frequencies import Base, angle_dtype, in_dtype, inverse_frequencies, products
from poslab.encodings.positions import Positions
from poslab.encodings.rotary.by_head import RotatedByHead, rotation_by_group
from poslab.encodings.rotary.rotation import Rotation, rotate_interleaved

Axes = Annotated[int, Range(at_least=2), NOT_HUGE]


class RotaryMixed(RotatedByHead):
    """Rotary with learned frequencies that read all axes together, each head and layer its own (RoPE-Mixed).

        logit(i, j) = q_i . R(p_j - p_i) k_j / sqrt(D),    R(p) rotates pair m of head g by sum_a p_a F[a, g, m]

    A pair of channels so has a direction as well as a speed: it rotates along diagonals too, where the pairs of
    `Rotary` under an allocation read one axis each.

    Use it when an encoding of images may have parameters: its authors find it ahead of axial rotary most of all at
    other resolutions than in training.

    Args:
        head_dim: head dimension D, a multiple of 2 A.
        num_heads: query heads H.
        num_kv_heads: key-value heads G; the query heads of a group rotate as their keys do.
        axes: number of axes A, at least 2 (paper: 2).
        base: frequency base of the initial values (paper: 10; above 1).

    Parameters: `frequencies` F (A, G, D / 2), each layer its own, without weight decay. They begin as the n = D / 2A
    frequencies base ** (-k / n) along each of A orthogonal directions, drawn uniformly for each head.

    Causal and bidirectional. A text, whose position counts on every axis alike, rotates by the sum of the frequencies
    of all axes, so it is not as under `Rotary`. Its authors scale nothing for larger images, whose cells count on;
    `positions=interpolated` brings them into the range of training. Computed in float32. Costs twice the memory of
    rotary in training, since queries and keys are kept for the gradient of F, and tables of D numbers for each position
    and head of a layer. Channels of a pair are 2m and 2m + 1.

    Raises:
        ValueError: for an argument out of its range, and for positions on another number of axes than A.

    Source: Heo et al., "Rotary Position Embedding for Vision Transformer" (ECCV 2024), section 3.3; the initial values
    follow its code, for any number of axes.
    """

    shared_by_layers = False
    reads_axes = True
    rotate = staticmethod(rotate_interleaved)

    def __init__(
        self, head_dim: Count, num_heads: Count, num_kv_heads: Count, axes: Axes = 2, base: Base = 10.0
    ) -> None:
        super().__init__(num_heads, num_kv_heads, head_dim)
        if head_dim % (2 * axes):
            raise ValueError(f"head_dim must be a multiple of {2 * axes}, two channels for each axis, got {head_dim}")
        directions = torch.stack([_rotation(axes) for _ in range(num_kv_heads)])  # (G, directions, A)
        along = directions.unsqueeze(-1) * inverse_frequencies(head_dim // axes, base)
        self.frequencies = nn.Parameter(along.permute(2, 0, 1, 3).flatten(2))

    def learned(self) -> dict[str, Tensor]:
        return {"frequencies": self.frequencies.to(torch.float32)}

    def spectrum_on_axes(self, lengths: Sequence[int]) -> Tensor:
        frequencies_AGP = self.learned()["frequencies"]
        return frequencies_AGP if len(lengths) > 1 else frequencies_AGP.sum(0, keepdim=True)

    def prepare(self, query_positions: Positions, key_positions: Positions) -> Rotation:
        keys = key_positions.coordinates_for_heads
        # Only differences matter. The gradient of F at position 1,000 would be a difference of far larger numbers.
        origin = keys[..., :1, :].sum(-2, keepdim=True)  # 0 without keys

        dtype = angle_dtype(*query_positions.lengths, *key_positions.lengths)

        def cos_sin(positions: Positions) -> tuple[Tensor, Tensor]:
            return self._cos_sin(positions.coordinates_for_heads - origin, dtype)

        return rotation_by_group(query_positions, key_positions, cos_sin, self.group)

    def _cos_sin(self, coordinates: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Return cosines and sines at coordinates (..., T, A or 1), (..., G, T, P) float32."""
        frequencies_AGP = in_dtype(self.learned()["frequencies"], dtype)
        num_axes = len(frequencies_AGP)
        if coordinates.shape[-1] not in (1, num_axes):
            raise ValueError(f"axes must be {coordinates.shape[-1]}, as the positions have, got {num_axes}")
        on_axes = coordinates.expand(*coordinates.shape[:-1], num_axes).unsqueeze(-1).unbind(-2)
        angles = [products(p_T1, f_GP.unsqueeze(-2)) for p_T1, f_GP in zip(on_axes, frequencies_AGP, strict=True)]
        angle = torch.stack(angles).sum(0)
        return angle.cos(), angle.sin()


def _rotation(axes: int) -> Tensor:
    """Return a rotation of space, (A, A), drawn uniformly."""
    directions = nn.init.orthogonal_(torch.empty(axes, axes, dtype=torch.float32))  # there is none in bfloat16
    directions[-1] *= directions.det().sign()
    return directions

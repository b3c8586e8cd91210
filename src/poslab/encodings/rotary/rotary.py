from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from poslab.encodings.base import PositionalEncoding
from poslab.encodings.frequencies import angles, check_base, inverse_frequencies
from poslab.encodings.positions import Positions


class Rotation(NamedTuple):
    """Cosines and sines of queries and keys, float32, (..., T, r / 2) and (..., S, r / 2) for r turning channels."""

    query_cos: Tensor
    query_sin: Tensor
    key_cos: Tensor
    key_sin: Tensor


class Rotary(PositionalEncoding):
    """Rotary position embedding (RoPE): queries and keys turn by an angle proportional to their position.

        logit(i, j) = (R(i) q_i) . (R(j) k_j) / sqrt(D) = q_i . R(j - i) k_j / sqrt(D)

    R(p) turns channel pair m by `p * base ** (-2m / r)`, where r = fraction * D channels turn and the rest stay. Pairs
    are half-split, (m, m + r / 2), as in Llama and GPT-NeoX; RoFormer and GPT-J pair (2m, 2m + 1), which is the same
    encoding up to a fixed order of channels.

    Args:
        head_dim: head dimension D.
        base: frequency base (paper: 10,000; above 1). A larger base turns more slowly and reaches further.
        fraction: the share of the head that turns, in (0, 1] (paper: 1; GPT-NeoX: 0.25). `fraction * D` must be even.

    Causal and bidirectional. No parameters. Computed in float32 whatever the dtype of the model.

    Source: Su et al., "RoFormer: Enhanced Transformer with Rotary Position Embedding" (2021), section 3.2; the
    fraction from Black et al., "GPT-NeoX-20B" (2022), section 2.1.1.
    """

    def __init__(self, head_dim: int, base: float = 10_000.0, fraction: float = 1.0) -> None:
        super().__init__()
        check_base(base)
        if not 0 < fraction <= 1:
            raise ValueError(f"fraction must lie in (0, 1], got {fraction}")
        rotary_dim = int(fraction * head_dim)
        if rotary_dim < 2 or rotary_dim % 2:
            raise ValueError(
                f"fraction must turn an even, positive number of the head's {head_dim} channels, "
                f"got {fraction}, which turns {rotary_dim}"
            )
        self.base = base
        self.rotary_dim = rotary_dim

    def prepare(self, query_positions: Positions, key_positions: Positions) -> Rotation:
        query_cos, query_sin = self._cos_sin(query_positions)
        if key_positions is query_positions:
            return Rotation(query_cos, query_sin, query_cos, query_sin)
        return Rotation(query_cos, query_sin, *self._cos_sin(key_positions))

    def rotate_query(self, q_BHTD: Tensor, tables: Rotation) -> Tensor:
        return rotate_half_split(q_BHTD, tables.query_cos, tables.query_sin)

    def rotate_key(self, k_BHSD: Tensor, tables: Rotation) -> Tensor:
        return rotate_half_split(k_BHSD, tables.key_cos, tables.key_sin)

    def _cos_sin(self, positions: Positions) -> tuple[Tensor, Tensor]:
        ids = positions.ids if positions.ids.dim() == 1 else positions.ids.unsqueeze(1)  # (B, 1, T): all heads alike
        angle = angles(ids, inverse_frequencies(self.rotary_dim, self.base, ids.device))
        return angle.cos(), angle.sin()


def rotate_half_split(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turns the channel pairs (m, m + r / 2) of the first r channels of x by the given angles.

    Args:
        x: (B, H, T, D), any dtype; the result has it too, the product is float32.
        cos, sin: (T, r / 2) or (B, 1, T, r / 2), float32, not trained.
    """
    turned: Tensor = _Rotate.apply(x, cos, sin)
    return turned


class _Rotate(torch.autograd.Function):
    """The gradient of a rotation is the rotation back: nothing but the tables is kept for the backward pass."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        ctx.save_for_backward(cos, sin)
        half = cos.shape[-1]
        first, second, rest = x.split([half, half, x.shape[-1] - 2 * half], dim=-1)
        turned = [
            (first * cos).addcmul_(second, sin, value=-1),
            (second * cos).addcmul_(first, sin),
        ]
        return torch.cat([*turned, rest] if rest.shape[-1] else turned, dim=-1).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        cos, sin = ctx.saved_tensors
        return rotate_half_split(gradients[0], cos, -sin), None, None

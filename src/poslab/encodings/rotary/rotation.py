"""Rotation of the channel pairs of queries and keys by given angles.

Dimension letters: B batch, H heads, T queries, S keys, D head dim.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from poslab.compiled import rows
from poslab.encodings.numerics import is_traced
from poslab.encodings.shape import TableShape


class Rotation(NamedTuple):
    """Cosines and sines of queries and keys, float32, (..., T, r / 2) and (..., S, r / 2) for r rotating channels.

    `logit_scale` is the factor on the usual scale of the logits: the square of a scaling's attention factor. The
    channels that rotate are so many `blocks`, each with its own pairs. `channel_scale` is the factor on these
    channels of queries, and of keys: an attention factor that is not in the scale of the logits.
    """

    query_cos: Tensor
    query_sin: Tensor
    key_cos: Tensor
    key_sin: Tensor
    logit_scale: float = 1.0
    blocks: int = 1
    channel_scale: float = 1.0

    @property
    def expected_shape(self) -> TableShape:
        return TableShape.of(self.query_cos, self.key_cos)


def check_width(x: Tensor, head_dim: int) -> None:
    """Raise ValueError unless queries or keys have the width that their rotation was made for."""
    if x.shape[-1] != head_dim:
        raise ValueError(f"queries and keys must be head_dim={head_dim} wide, got {x.shape[-1]}")


def rotate_half_split(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate the channel pairs (m, m + r / 2) of the first r channels of x by the given angles.

    x is (B, H, T, D) of any dtype, which the result has too; the product is float32. cos and sin are (T, r / 2) or
    (1 or B, 1 or H, T, r / 2), float32; if they need gradients, x is kept for the backward pass.
    """
    rotated: Tensor = _RotateHalfSplit.apply(x, cos, sin)
    return rotated


def rotate_interleaved(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate the channel pairs (2m, 2m + 1) of the first r channels of x, otherwise as `rotate_half_split`."""
    rotated: Tensor = _RotateInterleaved.apply(x, cos, sin)
    return rotated


def rotate_blocks(x: Tensor, cos: Tensor, sin: Tensor, blocks: int) -> Tensor:
    """Rotate each of so many equal blocks of the first r channels of x as `rotate_half_split` rotates all."""
    rotary, rest = x.split([2 * cos.shape[-1], x.shape[-1] - 2 * cos.shape[-1]], dim=-1)
    rotated = rotate_half_split(*(part.unflatten(-1, (blocks, -1)) for part in (rotary, cos, sin))).flatten(-2)
    return torch.cat([rotated, rest], dim=-1) if rest.shape[-1] else rotated


class _Rotate(torch.autograd.Function):
    """Base of rotations: the gradient of x is the rotation back, which needs only the tables; autograd's needs x."""

    generate_vmap_rule = True

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor], output: Tensor) -> None:
        x, cos, sin = inputs
        ctx.save_for_backward(cos, sin, *([x] if any(ctx.needs_input_grad[1:]) else []))


class _RotateHalfSplit(_Rotate):
    """Rotation of the pairs (m, m + r / 2)."""

    @staticmethod
    def forward(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        if (y := rows.rotated(x, cos, sin, interleaved=False)) is not None:
            return y
        half = cos.shape[-1]
        if is_traced():
            swapped = x[..., : 2 * half].unflatten(-1, (2, half)).flip(-2).flatten(-2)
            return _rotated_in_one_loop(x, swapped, torch.cat([cos, cos], dim=-1), torch.cat([-sin, sin], dim=-1))
        return _rotated(x, torch.cat([cos, cos], dim=-1), sin, slice(0, half), slice(half, 2 * half))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor | None, Tensor | None]:
        cos, sin, *x = ctx.saved_tensors
        half = cos.shape[-1]
        of_tables = _gradients_of_tables(gradients[0], x, cos, slice(0, half), slice(half, 2 * half))
        return rotate_half_split(gradients[0], cos, -sin), *of_tables


class _RotateInterleaved(_Rotate):
    """Rotation of the pairs (2m, 2m + 1)."""

    @staticmethod
    def forward(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        if (y := rows.rotated(x, cos, sin, interleaved=True)) is not None:
            return y
        rotary_dim = 2 * cos.shape[-1]
        if is_traced():
            swapped = x[..., :rotary_dim].unflatten(-1, (-1, 2)).flip(-1).flatten(-2)
            signed_sin = torch.stack([-sin, sin], dim=-1).flatten(-2)
            return _rotated_in_one_loop(x, swapped, cos.repeat_interleave(2, dim=-1), signed_sin)
        return _rotated(x, cos.repeat_interleave(2, dim=-1), sin, slice(0, rotary_dim, 2), slice(1, rotary_dim, 2))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor | None, Tensor | None]:
        cos, sin, *x = ctx.saved_tensors
        rotary_dim = 2 * cos.shape[-1]
        of_tables = _gradients_of_tables(gradients[0], x, cos, slice(0, rotary_dim, 2), slice(1, rotary_dim, 2))
        return rotate_interleaved(gradients[0], cos, -sin), *of_tables


def _gradients_of_tables(
    gradient: Tensor, kept: list[Tensor], cos: Tensor, first: slice, second: slice
) -> tuple[Tensor | None, Tensor | None]:
    """Return the gradients of cosines and sines, in float32 and summed over all that share them; None without x."""
    if not kept:
        return None, None
    dtype = torch.promote_types(cos.dtype, kept[0].dtype)
    gradient, x = gradient.to(dtype), kept[0].to(dtype)
    of_cos = gradient[..., first] * x[..., first] + gradient[..., second] * x[..., second]
    of_sin = gradient[..., second] * x[..., first] - gradient[..., first] * x[..., second]
    return of_cos.sum_to_size(cos.shape).to(cos.dtype), of_sin.sum_to_size(cos.shape).to(cos.dtype)


def _rotated(x: Tensor, cos_of_channels: Tensor, sin: Tensor, first: slice, second: slice) -> Tensor:
    """Rotate each pair of a first and a second channel; further channels stay.

    x is (B, H, T, D), `cos_of_channels` (..., T, r) for each channel that rotates, `sin` (..., T, r / 2) for each pair.
    """
    wide = x.to(torch.promote_types(x.dtype, sin.dtype))  # once: loops over two dtypes are slow on a CPU
    rotated = wide * functional.pad(cos_of_channels, (0, x.shape[-1] - cos_of_channels.shape[-1]), value=1.0)
    rotated[..., first].addcmul_(wide[..., second], sin, value=-1)
    rotated[..., second].addcmul_(wide[..., first], sin)
    return rotated.to(x.dtype)


def _rotated_in_one_loop(x: Tensor, swapped: Tensor, cos_of_channels: Tensor, sin_of_channels: Tensor) -> Tensor:
    """Rotate as `_rotated` does, given the rotating channels with the two of each pair swapped: one loop in a compiler.

    A compiler makes several loops of `_rotated`, and joins the halves of its result number by number.
    """
    rotary, rest = x.split([swapped.shape[-1], x.shape[-1] - swapped.shape[-1]], dim=-1)
    rotated = (rotary * cos_of_channels + swapped * sin_of_channels).to(x.dtype)
    return torch.cat([rotated, rest], dim=-1) if rest.shape[-1] else rotated

"""Attention on a CPU, perhaps under a bias of distance or offset, without a matrix: `kernel.py`, or PyTorch's kernel.

It is an operator, registered with torch.compile, autograd and torch.func. Where `kernel.py` does not support it,
PyTorch's CPU kernel does, block by block.

Dimension letters: B batch, H query heads, G key heads, T queries, S keys, D head dim, N = T + S - 1 distances, or
offsets.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from poslab.attention import kernel
from poslab.attention.distance_blocks import OfRows, blocks, by_rows
from poslab.attention.distance_gradients import KERNEL_BLOCK, gradient_of_sinks, gradients
from poslab.attention.visibility import Visibility

OF_ROWS = len(OfRows._fields)  # number of the operator's last arguments, which are the fields of `OfRows`

flash = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu


def attend_by_distance(
    q_BHTD: Tensor,
    k_BGSD: Tensor,
    v_BGSD: Tensor,
    bias_HN: Tensor | None,
    visibility: Visibility,
    scale: float,
    sinks_H: Tensor | None = None,
    query_places: Tensor | None = None,
    key_places: Tensor | None = None,
) -> Tensor:
    """Return the attention output, (B, H, T, D), zero for a query that sees nothing, with one block of extra memory.

    Args:
        q_BHTD, k_BGSD, v_BGSD: queries, keys and values of one width and dtype, on a CPU.
        bias_HN: values of a `BiasTable` or a `BiasOfLattice` for each head; None for none.
        visibility: keys that each query sees.
        scale: factor on the products of queries and keys.
        sinks_H: logit of the sink of each head; None for none.
        query_places, key_places: as in `BiasOfLattice`; None for a `BiasTable`.
    """
    num_queries, num_keys = q_BHTD.shape[-2], k_BGSD.shape[-2]
    furthest = max(num_queries, num_keys) if visibility.window is None else visibility.window - 1
    nearest = -furthest
    if visibility.causal:
        nearest = 0 if num_queries > 1 else -num_keys
    # torch.func ignores the registered autograd of an operator; torch.compile needs the operator itself.
    operator = distance_attention if torch.compiler.is_compiling() else DistanceAttention.apply
    dtype = _dtype_of_bias(q_BHTD)
    bias_HN = None if bias_HN is None else bias_HN.to(dtype)
    sinks_H1 = None if sinks_H is None else sinks_H.to(dtype).unsqueeze(1)
    of_rows = OfRows(visibility.query_segments, visibility.key_segments, visibility.real_keys, query_places, key_places)
    output, _ = operator(q_BHTD, k_BGSD, v_BGSD, bias_HN, sinks_H1, nearest, furthest, scale, *of_rows)
    return output


def _dtype_of_bias(q_BHTD: Tensor) -> torch.dtype:
    """Return float32, or float64 for queries in float64."""
    return torch.promote_types(q_BHTD.dtype, torch.float32)


def _check(
    q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, sinks: Tensor | None, of_rows: OfRows, *like_q: Tensor
) -> None:
    """Raise ValueError for operands of wrong sizes, which the kernel does not compare and would read past."""
    if not q.dim() == k.dim() == v.dim() == 4 or (bias is not None and bias.dim() != 2):
        raise ValueError("q, k, v and bias must have 4, 4, 4 and 2 dimensions")
    batch, num_heads, num_queries, width = q.shape
    num_kv_heads, num_keys = k.shape[1:3]
    in_groups = num_kv_heads > 0 and num_heads % num_kv_heads == 0
    if len(k) != batch or not in_groups or k.shape[3] != width or v.shape != k.shape or not (num_keys and width):
        expected = (batch, f"a divisor of {num_heads}", "S", width)
        raise ValueError(f"k and v must be {expected}, got {tuple(k.shape)} and {tuple(v.shape)}")
    places = (of_rows.query_places, of_rows.key_places)
    is_lattice = places[0] is not None
    if is_lattice != (places[1] is not None) or any(x is not None and x.dtype != torch.int64 for x in places):
        raise ValueError("places must be integers, given for queries and keys or for neither")
    if bias is None:
        if is_lattice:
            raise ValueError("places need a bias")
    elif bias.shape[0] != num_heads or (bias.shape[1] != num_queries + num_keys - 1 and not is_lattice):
        of_distances = (num_heads, num_queries + num_keys - 1)
        raise ValueError(f"bias must be {of_distances}, by the tokens of q and k, got {tuple(bias.shape)}")
    dtype = _dtype_of_bias(q)
    if not (q.dtype == k.dtype == v.dtype and (bias is None or bias.dtype == dtype)):
        raise ValueError(f"q, k and v must have one dtype and bias {dtype}, got {None if bias is None else bias.dtype}")
    if sinks is not None and (sinks.shape != (num_heads, 1) or sinks.dtype != dtype):
        raise ValueError(f"sinks must be {(num_heads, 1)}, {dtype}, got {tuple(sinks.shape)}, {sinks.dtype}")
    for x, length in zip(of_rows, (num_queries, num_keys, num_keys, num_queries, num_keys), strict=True):
        if x is not None and (x.dim() != 2 or x.shape[0] not in (1, batch) or x.shape[1] != length):
            raise ValueError(f"segments, real_keys and places must be (1 or {batch}, {length}), got {tuple(x.shape)}")
    for x in like_q:
        if x.shape != q.shape[: x.dim()] or x.dim() < 3:
            raise ValueError(f"gradient, output and log_sum must be as q, {tuple(q.shape)}, got {tuple(x.shape)}")


@torch.library.custom_op("poslab::distance_attention", mutates_args=())
def distance_attention(
    q_BHTD: Tensor,
    k_BGSD: Tensor,
    v_BGSD: Tensor,
    bias_HN: Tensor | None,
    sinks_H1: Tensor | None,
    nearest: int,
    furthest: int,
    scale: float,
    query_segments: Tensor | None = None,
    key_segments: Tensor | None = None,
    real_keys: Tensor | None = None,
    query_places: Tensor | None = None,
    key_places: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Return the output, (B, H, T, D), and each query's log of its sum of exponentials, (B, H, T) float32 at least.

    Args:
        bias_HN: bias at successive distances, starting with the distance from the first query to the last key; or
            values of a `BiasOfLattice`; None for none.
        sinks_H1: logit of the sink of each head, which counts in the sum; None for none.
        nearest, furthest: least and largest distance in storage at which a query sees a key.
        others: as in `attend_by_distance` and `OfRows`.
    """
    of_rows = OfRows(query_segments, key_segments, real_keys, query_places, key_places)
    _check(q_BHTD, k_BGSD, v_BGSD, bias_HN, sinks_H1, of_rows)
    if kernel.serves(q_BHTD, k_BGSD.shape[2]):
        output_BHTD, log_sum_BHT = kernel.attend(q_BHTD, k_BGSD, v_BGSD, bias_HN, nearest, furthest, scale, of_rows)
    else:
        k_BHSD, v_BHSD = (_for_each_head(x, q_BHTD) for x in (k_BGSD, v_BGSD))
        bias_HN = _or_zeros(bias_HN, q_BHTD, k_BGSD)
        output_BHTD, log_sum_BHT = _by_blocks(q_BHTD, k_BHSD, v_BHSD, bias_HN, nearest, furthest, scale, of_rows)
    if sinks_H1 is not None:
        of_keys_BHT, log_sum_BHT = log_sum_BHT, torch.logaddexp(log_sum_BHT, sinks_H1)
        output_BHTD *= (of_keys_BHT - log_sum_BHT).exp().unsqueeze(-1)
    return output_BHTD, log_sum_BHT


def _by_blocks(
    q_BHTD: Tensor,
    k_BHSD: Tensor,
    v_BHSD: Tensor,
    bias_HN: Tensor,
    nearest: int,
    furthest: int,
    scale: float,
    of_rows: OfRows,
) -> tuple[Tensor, Tensor]:
    """Return the output and the logs of the sums, by PyTorch's kernel."""
    output_BHTD = torch.empty_like(q_BHTD, memory_format=torch.contiguous_format)
    log_sum_BHT = q_BHTD.new_empty(q_BHTD.shape[:-1], dtype=bias_HN.dtype)
    q_BHTD, k_BHSD, v_BHSD = (by_rows(x) for x in (q_BHTD, k_BHSD, v_BHSD))
    lengths = (q_BHTD.shape[-2], k_BHSD.shape[-2])
    for rows, keys, _, _, mask in blocks(bias_HN, *lengths, KERNEL_BLOCK, nearest, furthest, of_rows):
        q, k, v = q_BHTD[:, :, rows].flip(2), k_BHSD[:, :, keys], v_BHSD[:, :, keys]
        output, log_sum = flash(q, k, v, attn_mask=mask, scale=scale)
        output_BHTD[:, :, rows] = output.flip(2)
        log_sum_BHT[:, :, rows] = log_sum.flip(2)
    return output_BHTD, log_sum_BHT


def _for_each_head(x_BGSD: Tensor, q_BHTD: Tensor) -> Tensor:
    """Return keys or values repeated for the query heads that share them, (B, H, S, D)."""
    group = q_BHTD.shape[1] // x_BGSD.shape[1]
    return x_BGSD.repeat_interleave(group, dim=1) if group > 1 else x_BGSD


def _or_zeros(bias_HN: Tensor | None, q_BHTD: Tensor, k_BGSD: Tensor) -> Tensor:
    """Return a bias, or one of zeros, since a mask would need T x S numbers."""
    if bias_HN is not None:
        return bias_HN
    return q_BHTD.new_zeros(1, q_BHTD.shape[2] + k_BGSD.shape[2] - 1, dtype=_dtype_of_bias(q_BHTD))


@distance_attention.register_fake
def _(
    q_BHTD: Tensor, k_BGSD: Tensor, v_BGSD: Tensor, bias_HN: Tensor | None, sinks_H1: Tensor | None, *others: Any
) -> tuple[Tensor, Tensor]:
    _check(q_BHTD, k_BGSD, v_BGSD, bias_HN, sinks_H1, OfRows(*others[3:]))  # arguments at their defaults are left out
    output_BHTD = torch.empty_like(q_BHTD, memory_format=torch.contiguous_format)
    return output_BHTD, q_BHTD.new_empty(q_BHTD.shape[:-1], dtype=_dtype_of_bias(q_BHTD))


@torch.library.custom_op("poslab::distance_attention_backward", mutates_args=())
def distance_attention_backward(
    gradient_BHTD: Tensor,
    q_BHTD: Tensor,
    k_BGSD: Tensor,
    v_BGSD: Tensor,
    bias_HN: Tensor | None,
    sinks_H1: Tensor | None,
    output_BHTD: Tensor,
    log_sum_BHT: Tensor,
    bias_learns: bool,
    nearest: int,
    furthest: int,
    scale: float,
    query_segments: Tensor | None,
    key_segments: Tensor | None,
    real_keys: Tensor | None,
    query_places: Tensor | None,
    key_places: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Return the gradients of queries, keys, values, bias and sinks: see `gradients`.

    The gradient of the bias is zero unless `bias_learns`. Without a bias, or without sinks, their gradient is empty.
    """
    of_rows = OfRows(query_segments, key_segments, real_keys, query_places, key_places)
    _check(q_BHTD, k_BGSD, v_BGSD, bias_HN, sinks_H1, of_rows, gradient_BHTD, output_BHTD, log_sum_BHT)
    outputs = (output_BHTD, log_sum_BHT)
    settings: tuple[Any, ...] = (bias_learns, nearest, furthest, scale, of_rows)
    if kernel.serves(q_BHTD, k_BGSD.shape[2]):
        q, k, v, bias = kernel.gradients(gradient_BHTD, q_BHTD, k_BGSD, v_BGSD, bias_HN, *outputs, *settings)
    else:
        k_BHSD, v_BHSD = (_for_each_head(x, q_BHTD) for x in (k_BGSD, v_BGSD))
        zeros = _or_zeros(bias_HN, q_BHTD, k_BGSD)
        q, k, v, bias = gradients(gradient_BHTD, q_BHTD, k_BHSD, v_BHSD, zeros, *outputs, *settings)
        if k.shape != k_BGSD.shape:
            k, v = (x.unflatten(1, (k_BGSD.shape[1], -1)).sum(2) for x in (k, v))
    if bias_HN is None:
        bias = log_sum_BHT.new_empty(q_BHTD.shape[1], 0)
    return q, k, v, bias, gradient_of_sinks(gradient_BHTD, *outputs, sinks_H1)


@distance_attention_backward.register_fake
def _(
    gradient: Tensor, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, sinks: Tensor | None, *others: Any
) -> tuple[Tensor, ...]:
    output, log_sum = others[:2]
    _check(q, k, v, bias, sinks, OfRows(*others[-OF_ROWS:]), gradient, output, log_sum)
    nothing = log_sum.new_empty(q.shape[1], 0)
    like = (q, k, v, nothing if bias is None else bias, nothing if sinks is None else sinks)
    return tuple(torch.empty_like(x, memory_format=torch.contiguous_format) for x in like)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    q, k, v, bias, sinks, ctx.nearest, ctx.furthest, ctx.scale, *of_rows = inputs
    ctx.mark_non_differentiable(output[1])
    ctx.save_for_backward(q, k, v, bias, sinks, *output, *of_rows)


def _backward(ctx: Any, gradient: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
    saved = ctx.saved_tensors  # read once: checkpointed activations are given out once
    kept, of_rows = saved[:-OF_ROWS], saved[-OF_ROWS:]
    learns = ctx.needs_input_grad[3]
    settings = (ctx.nearest, ctx.furthest, ctx.scale, *of_rows)
    q, k, v, bias, sinks = _DistanceAttentionBackward.apply(gradient, *kept, learns, *settings)
    of_sinks = sinks if ctx.needs_input_grad[4] else None
    return q, k, v, bias if learns else None, of_sinks, None, None, None, *[None] * OF_ROWS


distance_attention.register_autograd(_backward, setup_context=_keep)


def _over_a_dimension(
    function: type[torch.autograd.Function], size: int, in_dims: tuple[int | None, ...], inputs: tuple[Any, ...]
) -> tuple[tuple[Tensor, ...], tuple[int, ...]]:
    """Apply a function under torch.func.vmap: the new dimension joins the heads, each with its own bias.

    If segments, padding or places, which all heads share, have that dimension, its parts are computed one by one.
    """
    if any(dim is not None for dim in in_dims[-OF_ROWS:]):
        parts = [
            function.apply(*(x if dim is None else x.select(dim, part) for x, dim in zip(inputs, in_dims, strict=True)))
            for part in range(size)
        ]
        return tuple(map(torch.stack, zip(*parts, strict=True))), (0,) * len(parts[0])

    def joined(x: Any, dim: int | None) -> Any:
        if not isinstance(x, Tensor):
            return x
        x = x.expand(size, *x.shape) if dim is None else x.movedim(dim, 0)
        heads = _heads_of(x.ndim - 1)
        return x.movedim(0, heads).flatten(heads, heads + 1)

    mixed = [joined(x, dim) for x, dim in zip(inputs[:-OF_ROWS], in_dims[:-OF_ROWS], strict=True)]
    outputs = function.apply(*mixed, *inputs[-OF_ROWS:])
    dims = tuple(_heads_of(y.ndim) for y in outputs)
    return tuple(y.unflatten(dim, (size, -1)) for y, dim in zip(outputs, dims, strict=True)), dims


def _heads_of(num_dimensions: int) -> int:
    """Return the dimension of the heads: the first of a bias (H, N) or sinks (H, 1), the second of everything else."""
    return 0 if num_dimensions == 2 else 1


class DistanceAttention(torch.autograd.Function):
    """Form of `distance_attention` for torch.func."""

    @staticmethod
    def forward(*inputs: Any) -> tuple[Tensor, Tensor]:
        outputs: tuple[Tensor, Tensor] = distance_attention(*inputs)
        return outputs

    setup_context = staticmethod(_keep)
    backward = staticmethod(_backward)

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], *inputs: Any) -> Any:
        return _over_a_dimension(DistanceAttention, info.batch_size, in_dims, inputs)


class _DistanceAttentionBackward(torch.autograd.Function):
    """Backward pass of `DistanceAttention`, without second derivatives."""

    @staticmethod
    def forward(*inputs: Any) -> tuple[Tensor, ...]:
        outputs: tuple[Tensor, ...] = distance_attention_backward(*inputs)
        return outputs

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, *_: Tensor) -> Any:
        raise NotImplementedError("attention under a bias of distance has no second derivative (attention=dense has)")

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], *inputs: Any) -> Any:
        return _over_a_dimension(_DistanceAttentionBackward, info.batch_size, in_dims, inputs)

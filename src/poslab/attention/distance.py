"""Attention under a bias of distance without a matrix of it: PyTorch's kernel for a processor, block by block.

A bias of distance is one number for each distance and head. Stored in one order these *are* the T x S matrix: with the
rows of a block in reverse, row r and column j hold number r + j, and a mask with the strides (1, 1) over the vector is
what the kernel takes without a copy. In the backward pass the gradient of a distance is the sum over its diagonal,
which the same strides give.

Dimension letters: B batch, H heads, T queries, S keys, R queries of a block, K keys that a block sees, D head dim,
N = T + S - 1 distances.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from poslab.attention.visibility import Visibility

KERNEL_BLOCK = 256
"""Query rows of a block that the kernel takes: with fewer it cuts them into pieces of less than 64."""

BLOCK = 128
"""Query rows of a block whose logits are made here, where the bias learns."""

CACHED = 2**21
"""Logits that a block has in all heads that are taken together, at most: what is made of them stays in the cache."""

LOG2_E = 1 / math.log(2)
"""exp(x) is exp2(x log2(e)), and PyTorch's exp2 is several times as fast, most of all far below zero."""

flash = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
flash_backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward


def attend_by_distance(
    q_BHTD: Tensor, k_BHSD: Tensor, v_BHSD: Tensor, bias_HN: Tensor, visibility: Visibility, scale: float
) -> Tensor:
    """Attention output, (B, H, T, D), zero for a query that sees nothing; memory beyond its inputs is that of a block.

    Args:
        q_BHTD, k_BHSD, v_BHSD: queries, keys and values of the same width and dtype, on a processor.
        bias_HN: the values of a `BiasTable`, float32 at least.
        visibility: which keys each query sees.
        scale: of the products of queries and keys.
    """
    num_queries, num_keys = q_BHTD.shape[-2], k_BHSD.shape[-2]
    furthest = num_keys if visibility.window is None else visibility.window - 1
    nearest = -furthest
    if visibility.causal:
        nearest = 0 if num_queries > 1 else -num_keys
    dtype = torch.promote_types(bias_HN.dtype, q_BHTD.dtype)
    output, _ = distance_attention(
        q_BHTD,
        k_BHSD,
        v_BHSD,
        bias_HN.to(dtype),
        nearest,
        furthest,
        scale,
        visibility.query_segments,
        visibility.key_segments,
        visibility.real_keys,
    )
    return output


class _Block(NamedTuple):
    """A block of query rows, last row first, and the keys that any of them may see."""

    rows: slice
    keys: slice
    first_distance: int
    """The place in the vector, which begins at the largest distance, of its first row and column."""

    mask: Tensor
    """(1 or B, H, R, K): the bias, and minus infinity where a query does not see a key."""


def _blocks(
    bias_HN: Tensor,
    num_queries: int,
    block: int,
    nearest: int,
    furthest: int,
    query_segments: Tensor | None,
    key_segments: Tensor | None,
    real_keys: Tensor | None,
) -> Iterator[_Block]:
    num_distances = bias_HN.shape[-1]
    num_keys = num_distances - num_queries + 1
    # Distance in storage, from the first query to the last key on, decides what is visible.
    distance_N = torch.arange(num_distances, device=bias_HN.device) - (num_queries - 1)
    hidden_N = (distance_N < nearest) | (distance_N > furthest)
    descending_HN = bias_HN.masked_fill(hidden_N, -math.inf).flip(-1)
    for start in range(0, num_queries, block):
        stop = min(start + block, num_queries)
        begin = max(0, num_keys - num_queries + start - furthest)
        end = min(num_keys, num_keys - num_queries + stop - nearest)
        rows, keys = slice(start, stop), slice(begin, end)
        first_distance = num_queries - stop + begin
        mask = descending_HN.as_strided(
            (1, len(bias_HN), stop - start, end - begin),
            (0, descending_HN.stride(0), 1, 1),
            descending_HN.storage_offset() + first_distance,
        )
        if query_segments is not None and key_segments is not None:
            mask = mask.masked_fill(
                query_segments[:, None, rows, None].flip(2) != key_segments[:, None, None, keys], -math.inf
            )
        if real_keys is not None:
            mask = mask.masked_fill(~real_keys[:, None, None, keys], -math.inf)
        yield _Block(rows, keys, first_distance, mask)


@torch.library.custom_op("poslab::distance_attention", mutates_args=())
def distance_attention(
    q_BHTD: Tensor,
    k_BHSD: Tensor,
    v_BHSD: Tensor,
    bias_HN: Tensor,
    nearest: int,
    furthest: int,
    scale: float,
    query_segments: Tensor | None = None,
    key_segments: Tensor | None = None,
    real_keys: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Output, (B, H, T, D), and the logarithm of each query's sum of exponentials, (B, H, T) float32 at least.

    Args:
        q_BHTD, k_BHSD, v_BHSD: queries, keys, values.
        bias_HN: the bias at successive distances, from that of the first query to the last key on.
        nearest, furthest: the least and the largest distance in storage at which a query sees a key.
        scale: of the products.
        query_segments, key_segments, real_keys: as in `Visibility`.
    """
    output_BHTD = torch.empty_like(q_BHTD, memory_format=torch.contiguous_format)
    log_sum_BHT = q_BHTD.new_empty(q_BHTD.shape[:-1], dtype=bias_HN.dtype)
    hiding = (query_segments, key_segments, real_keys)
    for rows, keys, _, mask in _blocks(bias_HN, q_BHTD.shape[-2], KERNEL_BLOCK, nearest, furthest, *hiding):
        output, log_sum = flash(
            q_BHTD[:, :, rows].flip(2), k_BHSD[:, :, keys], v_BHSD[:, :, keys], attn_mask=mask, scale=scale
        )
        output_BHTD[:, :, rows] = output.flip(2)
        log_sum_BHT[:, :, rows] = log_sum.flip(2)
    return output_BHTD, log_sum_BHT


@distance_attention.register_fake
def _(q_BHTD: Tensor, k_BHSD: Tensor, v_BHSD: Tensor, bias_HN: Tensor, *_: Any) -> tuple[Tensor, Tensor]:
    output_BHTD = torch.empty_like(q_BHTD, memory_format=torch.contiguous_format)
    return output_BHTD, q_BHTD.new_empty(q_BHTD.shape[:-1], dtype=bias_HN.dtype)


@torch.library.custom_op("poslab::distance_attention_backward", mutates_args=())
def distance_attention_backward(
    gradient_BHTD: Tensor,
    q_BHTD: Tensor,
    k_BHSD: Tensor,
    v_BHSD: Tensor,
    bias_HN: Tensor,
    output_BHTD: Tensor,
    log_sum_BHT: Tensor,
    bias_learns: bool,
    nearest: int,
    furthest: int,
    scale: float,
    query_segments: Tensor | None,
    key_segments: Tensor | None,
    real_keys: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The gradients of queries, keys, values and bias, which is zero unless the bias learns."""
    q_gradient = torch.empty_like(q_BHTD, memory_format=torch.contiguous_format)
    k_gradient, v_gradient = (
        torch.zeros_like(x, dtype=bias_HN.dtype, memory_format=torch.contiguous_format) for x in (k_BHSD, v_BHSD)
    )
    bias_gradient = torch.zeros_like(bias_HN)
    kept = (gradient_BHTD, q_BHTD, k_BHSD, v_BHSD, output_BHTD, log_sum_BHT)
    hiding = (query_segments, key_segments, real_keys)
    if bias_learns:
        num_queries, num_keys = q_BHTD.shape[2], k_BHSD.shape[2]
        rows = min(BLOCK, num_queries)
        together = max(1, min(q_BHTD.shape[1], CACHED // (rows * num_keys)))
        # Made once: memory that is new to a process costs as much as what is computed in it.
        workspaces = bias_HN.new_empty(3, together * rows * (rows + num_keys))
        # As PyTorch's kernel has it: logits and their gradients in float32, what is multiplied by them in bfloat16.
        product_dtype = torch.bfloat16 if q_BHTD.dtype == torch.bfloat16 else bias_HN.dtype
        factors = workspaces.new_empty(2, together * rows * num_keys, dtype=product_dtype)
        for item in range(len(q_BHTD)):
            hiding_one = tuple(None if x is None else x[item : item + 1] for x in hiding)
            for first in range(0, q_BHTD.shape[1], together):
                heads = slice(first, first + together)
                some = (slice(item, item + 1), heads)
                blocks = _blocks(bias_HN[heads] * LOG2_E, num_queries, BLOCK, nearest, furthest, *hiding_one)
                _add_gradients_of_bias_too(
                    (q_gradient[some], k_gradient[some], v_gradient[some], bias_gradient[heads]),
                    [x[some] for x in kept],
                    scale,
                    blocks,
                    workspaces,
                    factors,
                )
    else:
        blocks = _blocks(bias_HN, q_BHTD.shape[2], KERNEL_BLOCK, nearest, furthest, *hiding)
        _add_gradients((q_gradient, k_gradient, v_gradient), kept, scale, blocks)
    return q_gradient, k_gradient.to(k_BHSD.dtype), v_gradient.to(v_BHSD.dtype), bias_gradient


def _add_gradients(
    gradients: tuple[Tensor, ...],
    kept: Sequence[Tensor],
    scale: float,
    blocks: Iterator[_Block],
) -> None:
    """Adds to the gradients of queries, keys and values, by the kernel."""
    q_gradient, k_gradient, v_gradient = gradients
    gradient_BHTD, q_BHTD, k_BHSD, v_BHSD, output_BHTD, log_sum_BHT = kept
    for rows, keys, _, mask in blocks:
        gradient, q, output, log_sum = (
            x[:, :, rows].flip(2) for x in (gradient_BHTD, q_BHTD, output_BHTD, log_sum_BHT)
        )
        k, v = k_BHSD[:, :, keys], v_BHSD[:, :, keys]
        parts = flash_backward(gradient, q, k, v, output, log_sum, 0.0, False, attn_mask=mask, scale=scale)
        q_gradient[:, :, rows] = parts[0].flip(2)
        k_gradient[:, :, keys] += parts[1]
        v_gradient[:, :, keys] += parts[2]


def _add_gradients_of_bias_too(
    gradients: tuple[Tensor, ...],
    kept: Sequence[Tensor],
    scale: float,
    blocks: Iterator[_Block],
    workspaces: Tensor,
    factors: Tensor,
) -> None:
    """Adds to the gradients of queries, keys, values and bias: the kernel has none for its mask.

    The masks of the blocks are in units of log 2. Each block writes over `workspaces`, and over `factors`, of which
    products with queries, keys and gradients are made.
    """
    q_gradient, k_gradient, v_gradient, bias_gradient = gradients
    gradient_BHTD, q_BHTD, k_BHSD, v_BHSD, output_BHTD, log_sum_BHT = kept
    dtype = bias_gradient.dtype
    exact_k_BHSD, v_and_one = k_BHSD.to(dtype), functional.pad(v_BHSD.to(dtype), (0, 1), value=1.0)
    for rows, keys, first_distance, mask in blocks:
        gradient, q, output, log_sum = (
            x[:, :, rows].flip(2) for x in (gradient_BHTD, q_BHTD, output_BHTD, log_sum_BHT)
        )
        exact_gradient, exact_q = gradient.to(dtype), q.to(dtype)
        gradient, q, k = (x.to(factors.dtype) for x in (gradient, q, k_BHSD[:, :, keys]))
        heads, (num_rows, num_keys) = q.shape[:2], mask.shape[-2:]
        # exp(scale q k^T + bias - log sum), and its gradient less what the softmax takes away.
        log_sum = (log_sum * LOG2_E).unsqueeze(-1)
        weights_BHRK = torch.sub(mask, log_sum, out=_within(workspaces[0], *heads, num_rows, num_keys))
        scaled_q = exact_q * (scale * LOG2_E)
        _flat(weights_BHRK).baddbmm_(_flat(scaled_q), _flat(exact_k_BHSD[:, :, keys]).mT).exp2_()
        weights_gradient = _within(workspaces[1], *heads, num_rows, num_keys)
        taken_away = -(exact_gradient * output).sum(-1, keepdim=True)
        and_taken_away = torch.cat([exact_gradient, taken_away], dim=-1)
        torch.bmm(_flat(and_taken_away), _flat(v_and_one[:, :, keys]).mT, out=_flat(weights_gradient))
        # Rows that are as long as those of the sum over diagonals below, and one number more.
        padded = _within(workspaces[2], *heads, num_rows, num_rows + num_keys)
        padded[..., num_keys:] = 0
        torch.mul(weights_gradient, weights_BHRK, out=padded[..., :num_keys])
        of_products = _within(factors[0], *heads, num_rows, num_keys)
        torch.mul(padded[..., :num_keys], scale, out=of_products)
        q_gradient[:, :, rows] = (of_products @ k).flip(2)
        k_gradient[:, :, keys] += of_products.mT @ q
        if factors.dtype != dtype:
            weights_BHRK = _within(factors[1], *heads, num_rows, num_keys).copy_(weights_BHRK)
        v_gradient[:, :, keys] += weights_BHRK.mT @ gradient
        width = num_rows + num_keys - 1
        diagonals = padded.flatten(2)[..., : num_rows * width].unflatten(2, (num_rows, width))
        last = bias_gradient.shape[-1] - first_distance
        bias_gradient[:, last - width : last] += diagonals.sum((0, 2)).flip(-1)


def _within(workspace: Tensor, *shape: int) -> Tensor:
    """A tensor of this shape at the beginning of a workspace."""
    return workspace[: math.prod(shape)].view(shape)


def _flat(x: Tensor) -> Tensor:
    """Batch and heads in one dimension."""
    return x.flatten(0, 1)


@distance_attention_backward.register_fake
def _(
    gradient_BHTD: Tensor, q_BHTD: Tensor, k_BHSD: Tensor, v_BHSD: Tensor, bias_HN: Tensor, *_: Any
) -> tuple[Tensor, ...]:
    return tuple(torch.empty_like(x, memory_format=torch.contiguous_format) for x in (q_BHTD, k_BHSD, v_BHSD, bias_HN))


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    q, k, v, bias, ctx.nearest, ctx.furthest, ctx.scale, *hiding = inputs
    ctx.mark_non_differentiable(output[1])
    ctx.save_for_backward(q, k, v, bias, *output, *hiding)


def _backward(ctx: Any, gradient: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
    *kept, query_segments, key_segments, real_keys = ctx.saved_tensors
    hiding = (query_segments, key_segments, real_keys)
    learns = ctx.needs_input_grad[3]
    settings = (ctx.nearest, ctx.furthest, ctx.scale)
    q, k, v, bias = distance_attention_backward(gradient, *kept, learns, *settings, *hiding)
    return q, k, v, bias if learns else None, None, None, None, None, None, None


distance_attention.register_autograd(_backward, setup_context=_keep)

"""Gradients of attention under a bias of distance or offset, block by block, and gradient of the bias itself.

The gradient of a distance is the logits' gradient summed over its diagonal, by the strides of `distance_blocks`. The
gradient of an offset is summed by number.

Dimension letters: B batch, H heads, T queries, S keys, R queries of a block, K keys that a block sees, D head dim,
N = T + S - 1 distances.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from poslab.attention.distance_blocks import DistanceBlock, OfRows, blocks, by_rows

KERNEL_BLOCK = 256
"""Query rows of a block for PyTorch's kernel, which cuts smaller blocks into pieces of less than 64."""

BLOCK = 128  # query rows of a block whose logits are computed here, where the bias learns

CACHED = 2**21  # most logits of a block over the heads that are computed together, so that they stay in the cache

SHORT = 2**20
"""Most logits of the blocks of several items together: one by one, short ones cost more in calls than in sums."""

LOG2_E = 1 / math.log(2)
"""exp(x) is exp2(x log2(e)), and PyTorch's exp2 is several times faster, most of all far below zero."""

flash_backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward


def gradients(
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
    of_rows: OfRows,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the gradients of queries, keys, values and bias; the bias has zero unless it learns.

    Args:
        gradient_BHTD: gradient of the output.
        q_BHTD, k_BHSD, v_BHSD, bias_HN, output_BHTD, log_sum_BHT: inputs and outputs of the forward pass.
        bias_learns: True if the gradient of the bias is needed, which PyTorch's kernel does not compute.
        nearest, furthest, of_rows: as in `blocks`.
        scale: factor on the products.
    """
    q_gradient = torch.empty_like(q_BHTD, memory_format=torch.contiguous_format)
    k_gradient, v_gradient = (
        torch.zeros_like(x, dtype=bias_HN.dtype, memory_format=torch.contiguous_format) for x in (k_BHSD, v_BHSD)
    )
    # Contiguous as the fake kernel promises, though the bias may be a transposed view.
    bias_gradient = torch.zeros_like(bias_HN, memory_format=torch.contiguous_format)
    kept = (*(by_rows(x) for x in (gradient_BHTD, q_BHTD, k_BHSD, v_BHSD, output_BHTD)), log_sum_BHT)
    num_queries, num_keys = q_BHTD.shape[2], k_BHSD.shape[2]
    if bias_learns:
        rows = min(BLOCK, num_queries)
        batch, num_heads = q_BHTD.shape[:2]
        # Some heads of one long sequence, or several short sequences, are computed together.
        heads_together = max(1, min(num_heads, CACHED // (rows * num_keys)))
        items_together = max(1, min(batch, SHORT // (num_heads * rows * num_keys)))
        together = heads_together * items_together
        # Made once: memory that is new to a process costs as much as the computation in it.
        workspaces = bias_HN.new_empty(3, together * rows * (rows + num_keys))
        # As in PyTorch's kernel: logits and their gradients are float32, the factors of products with them bfloat16.
        product_dtype = torch.bfloat16 if q_BHTD.dtype == torch.bfloat16 else bias_HN.dtype
        factors = workspaces.new_empty(2, together * rows * num_keys, dtype=product_dtype)
        for first_item in range(0, batch, items_together):
            items = slice(first_item, first_item + items_together)
            of_items = OfRows(*(x if x is None or len(x) == 1 else x[items] for x in of_rows))
            for first_head in range(0, num_heads, heads_together):
                heads = slice(first_head, first_head + heads_together)
                some = (items, heads)
                scaled_HN = bias_HN[heads] * LOG2_E
                some_blocks = blocks(scaled_HN, num_queries, num_keys, BLOCK, nearest, furthest, of_items)
                _add_gradients_of_bias_too(
                    (q_gradient[some], k_gradient[some], v_gradient[some], bias_gradient[heads]),
                    [x[some] for x in kept],
                    scale,
                    some_blocks,
                    workspaces,
                    factors,
                )
    else:
        all_blocks = blocks(bias_HN, num_queries, num_keys, KERNEL_BLOCK, nearest, furthest, of_rows)
        _add_gradients((q_gradient, k_gradient, v_gradient), kept, scale, all_blocks)
    return q_gradient, k_gradient.to(k_BHSD.dtype), v_gradient.to(v_BHSD.dtype), bias_gradient


def gradient_of_sinks(
    gradient_BHTD: Tensor, output_BHTD: Tensor, log_sum_BHT: Tensor, sinks_H1: Tensor | None
) -> Tensor:
    """Return the gradient of the logits of sinks, (H, 1), or (H, 0) without any.

    It is minus the sum over queries of the sink's weight times (output . gradient of the output): a sink has no value.
    Arguments as in `gradients`; the log of the sum counts the sink.
    """
    if sinks_H1 is None:
        return log_sum_BHT.new_zeros(log_sum_BHT.shape[1], 0)
    of_products_BHT = (gradient_BHTD.to(log_sum_BHT.dtype) * output_BHTD).sum(-1)
    return -(of_products_BHT * (sinks_H1 - log_sum_BHT).exp()).sum((0, 2)).unsqueeze(1)


def _add_gradients(
    gradients: tuple[Tensor, ...], kept: Sequence[Tensor], scale: float, some_blocks: Iterator[DistanceBlock]
) -> None:
    """Add to the gradients of queries, keys and values, by the kernel."""
    q_gradient, k_gradient, v_gradient = gradients
    gradient_BHTD, q_BHTD, k_BHSD, v_BHSD, output_BHTD, log_sum_BHT = kept
    by_query = (gradient_BHTD, q_BHTD, output_BHTD, log_sum_BHT)
    for rows, keys, _, _, mask in some_blocks:
        gradient, q, output, log_sum = (x[:, :, rows].flip(2) for x in by_query)
        k, v = k_BHSD[:, :, keys], v_BHSD[:, :, keys]
        parts = flash_backward(gradient, q, k, v, output, log_sum, 0.0, False, attn_mask=mask, scale=scale)
        q_gradient[:, :, rows] = parts[0].flip(2)
        k_gradient[:, :, keys] += parts[1]
        v_gradient[:, :, keys] += parts[2]


def _add_gradients_of_bias_too(
    gradients: tuple[Tensor, ...],
    kept: Sequence[Tensor],
    scale: float,
    some_blocks: Iterator[DistanceBlock],
    workspaces: Tensor,
    factors: Tensor,
) -> None:
    """Add to the gradients of queries, keys, values and bias; the kernel has none for its mask.

    The masks of the blocks are in units of log 2. Each block overwrites `workspaces` and `factors`; the latter are
    the factors of products with queries, keys and gradients.
    """
    q_gradient, k_gradient, v_gradient, bias_gradient = gradients
    gradient_BHTD, q_BHTD, k_BHSD, v_BHSD, output_BHTD, log_sum_BHT = kept
    by_query = (gradient_BHTD, q_BHTD, output_BHTD, log_sum_BHT)
    dtype = bias_gradient.dtype
    exact_k_BHSD, v_and_one = k_BHSD.to(dtype), functional.pad(v_BHSD.to(dtype), (0, 1), value=1.0)
    for rows, keys, first_distance, numbers, mask in some_blocks:
        gradient, q, output, log_sum = (x[:, :, rows].flip(2) for x in by_query)
        exact_gradient, exact_q = gradient.to(dtype), q.to(dtype)
        gradient, q, k = (x.to(factors.dtype) for x in (gradient, q, k_BHSD[:, :, keys]))
        heads, (num_rows, num_keys) = q.shape[:2], mask.shape[-2:]
        # exp(scale q k^T + bias - log sum), and its gradient minus the term of the softmax.
        log_sum = (log_sum * LOG2_E).unsqueeze(-1)
        weights_BHRK = torch.sub(mask, log_sum, out=_within(workspaces[0], *heads, num_rows, num_keys))
        scaled_q = exact_q * (scale * LOG2_E)
        _flat(weights_BHRK).baddbmm_(_flat(scaled_q), _flat(exact_k_BHSD[:, :, keys]).mT).exp2_()
        weights_gradient = _within(workspaces[1], *heads, num_rows, num_keys)
        taken_away = -(exact_gradient * output).sum(-1, keepdim=True)
        and_taken_away = torch.cat([exact_gradient, taken_away], dim=-1)
        torch.bmm(_flat(and_taken_away), _flat(v_and_one[:, :, keys]).mT, out=_flat(weights_gradient))
        # Rows of the length that the sum over diagonals below needs, plus one number.
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
        if numbers is not None:
            logits_gradient = padded[..., :num_keys]
            by_head = logits_gradient.sum(0) if len(numbers) == 1 else logits_gradient.transpose(0, 1)
            bias_gradient.scatter_add_(1, numbers.flatten().expand(len(bias_gradient), -1), by_head.flatten(1))
            continue
        width = num_rows + num_keys - 1
        diagonals = padded.flatten(2)[..., : num_rows * width].unflatten(2, (num_rows, width))
        last = bias_gradient.shape[-1] - first_distance
        bias_gradient[:, last - width : last] += diagonals.sum((0, 2)).flip(-1)


def _within(workspace: Tensor, *shape: int) -> Tensor:
    """Return a tensor of this shape at the start of a workspace."""
    return workspace[: math.prod(shape)].view(shape)


def _flat(x: Tensor) -> Tensor:
    """Merge batch and heads into one dimension."""
    return x.flatten(0, 1)

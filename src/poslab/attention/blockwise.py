"""Attention by its definition, block by block of query rows, each recomputed in the backward pass.

With one block for all queries it is the dense form, the reference for tests of the other routes.

Dimension letters: B batch, H query heads, G key-value heads, T queries, S keys, R query rows, D head dim, E state size.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from poslab.attention.visibility import Visibility
from poslab.encodings.base import PositionalEncoding, QueryRows

BLOCK = 128
"""Query rows of a block: few enough that its logits fit a CPU's cache, enough for large products."""


def by_blocks(
    q_BHTD: Tensor,
    k_BGSD: Tensor,
    v_BGSD: Tensor,
    encoding: PositionalEncoding,
    tables: Any,
    visibility: Visibility,
    scale: float | Tensor,
    state_BHSE: Tensor | None,
    block: int,
    sinks_H: Tensor | None = None,
) -> Tensor:
    """Return the attention output, (B, H, T, D), computed in float32 at least; training keeps inputs and one block.

    Args:
        q_BHTD, k_BGSD: queries and keys, rotated by the encoding.
        v_BGSD: values.
        encoding, tables, visibility, state_BHSE: as in `attend`.
        scale: factor on the products of queries and keys, a number or (1 or B, 1 or H, T, 1).
        block: largest number of query rows in a block.
        sinks_H: as in `attend`.
    """
    num_queries = q_BHTD.shape[-2]
    k_BHSD, v_BHSD = (in_float32_for_each_head(x, q_BHTD) for x in (k_BGSD, v_BGSD))

    def output_of(q_BHRD: Tensor, start: int) -> Tensor:
        weights_BHRS, rows = weights_of_block(
            q_BHRD, start, num_queries, k_BHSD, encoding, tables, visibility, scale, state_BHSE, sinks_H
        )
        with torch.autocast(q_BHRD.device.type, enabled=False):
            return encoding.values(weights_BHRS, v_BHSD[:, :, rows.keys], rows).to(v_BGSD.dtype)

    if num_queries <= block:
        return output_of(q_BHTD, 0)
    blocks = zip(q_BHTD.split(block, dim=2), range(0, num_queries, block), strict=True)
    if torch._C._are_functorch_transforms_active():  # torch.func does not support checkpoints, so everything is kept
        return torch.cat([output_of(*one) for one in blocks], dim=2)
    # Nothing here is random, so there is no random state to preserve for the recomputation.
    outputs = [checkpoint(output_of, *one, use_reentrant=False, preserve_rng_state=False) for one in blocks]
    return torch.cat(outputs, dim=2)


def weights_of_block(
    q_BHRD: Tensor,
    start: int,
    num_queries: int,
    k_BHSD: Tensor,
    encoding: PositionalEncoding,
    tables: Any,
    visibility: Visibility,
    scale: float | Tensor,
    state_BHSE: Tensor | None,
    sinks_H: Tensor | None = None,
) -> tuple[Tensor, QueryRows]:
    """Return the attention weights of a block of query rows, (B, H, R, S), and its `QueryRows`.

    S is the number of keys up to the last of these queries if attention is causal, else of all keys.

    Args:
        q_BHRD: queries `start` to `start + R - 1` of the T = num_queries ones, rotated by the encoding.
        k_BHSD: all keys, rotated by the encoding, in float32 at least, for each query head.
        encoding, tables, visibility, scale, state_BHSE, sinks_H: as in `by_blocks`.
    """
    rows = slice(start, start + q_BHRD.shape[-2])
    query_rows = rows_of_block(rows, num_queries, k_BHSD, tables, visibility, scale, state_BHSE)
    with torch.autocast(q_BHRD.device.type, enabled=False):
        logits_BHRS = encoding.logits(q_BHRD.to(k_BHSD.dtype), k_BHSD[:, :, query_rows.keys], query_rows)
        visible = query_rows.visible
        if sinks_H is None:
            return encoding.weights(logits_BHRS, visible), query_rows
        sink_BHR1 = sinks_H.to(logits_BHRS.dtype).view(-1, 1, 1).expand(*logits_BHRS.shape[:-1], 1)
        visible = None if visible is None else functional.pad(visible, (0, 1), value=True)
        with_sink = encoding.weights(torch.cat([logits_BHRS, sink_BHR1], dim=-1), visible)
        return with_sink[..., :-1], query_rows


def rows_of_block(
    rows: slice,
    num_queries: int,
    k_BHSD: Tensor,
    tables: Any,
    visibility: Visibility,
    scale: float | Tensor,
    state_BHSE: Tensor | None,
) -> QueryRows:
    """Return some of T = num_queries queries and their keys as `QueryRows`. Arguments as in `weights_of_block`."""
    num_keys = k_BHSD.shape[-2]
    of_keys = slice(num_keys - num_queries + rows.start, num_keys - num_queries + rows.stop)
    keys = slice(0, of_keys.stop if visibility.causal else num_keys)
    return QueryRows(
        tables,
        rows,
        of_keys.start,
        scale[:, :, rows] if isinstance(scale, Tensor) else scale,
        visibility.mask(num_queries, num_keys, k_BHSD.device, rows, keys),
        None if state_BHSE is None else state_BHSE[:, :, of_keys],
        None if state_BHSE is None else state_BHSE[:, :, keys],
        keys,
    )


def in_float32_for_each_head(x_BGSD: Tensor, q_BHTD: Tensor) -> Tensor:
    """Return keys or values in float32 at least, repeated for the query heads that share them, (B, H, S, D)."""
    x_BGSD = x_BGSD.to(torch.promote_types(q_BHTD.dtype, torch.float32))
    group = q_BHTD.shape[1] // x_BGSD.shape[1]
    return x_BGSD.repeat_interleave(group, dim=1) if group > 1 else x_BGSD

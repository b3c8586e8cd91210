"""Attention by its definition, one block of query rows after the other, each made again in the backward pass.

With one block for all queries it is the dense form, which the tests of the other routes trust.

Dimension letters: B batch, H query heads, G key-value heads, T queries, S keys, R queries of a block, D head dim.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from poslab.attention.visibility import Visibility
from poslab.encodings.base import PositionalEncoding, QueryRows

BLOCK = 128
"""Query rows of a block: its logits fit a processor's cache, and its products are still large."""


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
) -> Tensor:
    """Attention output, (B, H, T, D), computed in float32 at least; training keeps its inputs and one block.

    Args:
        q_BHTD, k_BGSD: queries and keys as the encoding has turned them.
        v_BGSD: values.
        encoding, tables, visibility, state_BHSE: as in `attend`.
        scale: of the products of queries and keys, a number or (1 or B, 1 or H, T, 1).
        block: the number of query rows of a block, at most.
    """
    num_queries, num_keys = q_BHTD.shape[-2], k_BGSD.shape[-2]
    group = q_BHTD.shape[1] // k_BGSD.shape[1]
    dtype = torch.promote_types(q_BHTD.dtype, torch.float32)
    k_BHSD, v_BHSD = (x.to(dtype) for x in (k_BGSD, v_BGSD))
    if group > 1:
        k_BHSD, v_BHSD = (x.repeat_interleave(group, dim=1) for x in (k_BHSD, v_BHSD))

    def output_of(q_BHRD: Tensor, start: int) -> Tensor:
        first_key = num_keys - num_queries + start
        rows = slice(start, start + q_BHRD.shape[-2])
        keys = slice(0, first_key + q_BHRD.shape[-2] if visibility.causal else num_keys)
        query_rows = QueryRows(
            tables,
            rows,
            first_key,
            scale[:, :, rows] if isinstance(scale, Tensor) else scale,
            visibility.mask(num_queries, num_keys, q_BHRD.device, rows, keys),
            None if state_BHSE is None else state_BHSE[:, :, first_key : first_key + q_BHRD.shape[-2]],
            None if state_BHSE is None else state_BHSE[:, :, keys],
            keys,
        )
        with torch.autocast(q_BHRD.device.type, enabled=False):
            logits_BHRS = encoding.logits(q_BHRD.to(dtype), k_BHSD[:, :, keys], query_rows)
            weights_BHRS = encoding.weights(logits_BHRS, query_rows.visible)
            return encoding.values(weights_BHRS, v_BHSD[:, :, keys], query_rows).to(v_BGSD.dtype)

    if num_queries <= block:
        return output_of(q_BHTD, 0)
    # Nothing here is random, so that there is no random state to keep for the second time.
    outputs = [
        checkpoint(output_of, q_BHRD, start, use_reentrant=False, preserve_rng_state=False)
        for start, q_BHRD in zip(range(0, num_queries, block), q_BHTD.split(block, dim=2), strict=True)
    ]
    return torch.cat(outputs, dim=2)

"""Attention by its definition, block by block of query rows, each recomputed in the backward pass.

With one block for all queries it is the dense form, the reference for tests of the other routes.

Dimension letters: B batch, H query heads, G key-value heads, T queries, S keys, R query rows, D head dim, E state size.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from poslab.attention.visibility import Visibility
from poslab.encodings.base import PositionalEncoding, QueryRows
from poslab.encodings.numerics import is_under_torch_func

BLOCK = 128  # query rows of a block: few enough that its logits fit a CPU's cache, enough for large products


@dataclass(frozen=True)
class Weighting:
    """Attention weights by their definition, for queries and keys that the encoding has rotated."""

    # encoding, tables, visibility: as in `attend`
    encoding: PositionalEncoding
    tables: Any
    visibility: Visibility
    scale: float | Tensor  # factor on the products of queries and keys, a number or (1 or B, 1 or H, T, 1)
    state: Tensor | None = None  # (B, H, S, E), as in `attend`
    sinks: Tensor | None = None  # (H,), as in `attend`
    softcap: float | None = None  # as in `attend`

    def of_block(self, q_BHRD: Tensor, start: int, num_queries: int, k_BHSD: Tensor) -> tuple[Tensor, QueryRows]:
        """Return the attention weights of a block of query rows, (B, H, R, S), and its `QueryRows`.

        S is the number of keys up to the last of these queries if attention is causal, else of all keys.

        Args:
            q_BHRD: queries `start` to `start + R - 1` of the T = num_queries ones.
            k_BHSD: all keys, in float32 at least, for each query head.
        """
        rows = self.rows(slice(start, start + q_BHRD.shape[-2]), num_queries, k_BHSD)
        with torch.autocast(q_BHRD.device.type, enabled=False):
            logits_BHRS = self.encoding.logits(q_BHRD.to(k_BHSD.dtype), k_BHSD[:, :, rows.keys], rows)
            if self.softcap is not None:
                logits_BHRS = self.softcap * torch.tanh(logits_BHRS / self.softcap)
            visible = rows.visible
            if self.sinks is None:
                return self.encoding.weights(logits_BHRS, visible), rows
            sink_BHR1 = self.sinks.to(logits_BHRS.dtype).view(-1, 1, 1).expand(*logits_BHRS.shape[:-1], 1)
            visible = None if visible is None else functional.pad(visible, (0, 1), value=True)
            with_sink = self.encoding.weights(torch.cat([logits_BHRS, sink_BHR1], dim=-1), visible)
            return with_sink[..., :-1], rows

    def rows(self, rows: slice, num_queries: int, k_BHSD: Tensor) -> QueryRows:
        """Return some of T = num_queries queries and their keys as `QueryRows`; keys as in `of_block`."""
        num_keys = k_BHSD.shape[-2]
        of_keys = slice(num_keys - num_queries + rows.start, num_keys - num_queries + rows.stop)
        keys = slice(0, of_keys.stop if self.visibility.causal else num_keys)
        return QueryRows(
            self.tables,
            rows,
            of_keys.start,
            self.scale[:, :, rows] if isinstance(self.scale, Tensor) else self.scale,
            self.visibility.mask(num_queries, num_keys, k_BHSD.device, rows, keys),
            None if self.state is None else self.state[:, :, of_keys],
            None if self.state is None else self.state[:, :, keys],
            keys,
        )


def by_blocks(q_BHTD: Tensor, k_BGSD: Tensor, v_BGSD: Tensor, weighting: Weighting, block: int) -> Tensor:
    """Return the attention output, (B, H, T, D), computed in float32 at least; training keeps inputs and one block.

    Args:
        q_BHTD, k_BGSD: queries and keys, rotated by the encoding.
        v_BGSD: values.
        weighting: weights of the values.
        block: largest number of query rows in a block.
    """
    num_queries = q_BHTD.shape[-2]
    k_BHSD, v_BHSD = (in_float32_for_each_head(x, q_BHTD) for x in (k_BGSD, v_BGSD))

    def output_of(q_BHRD: Tensor, start: int) -> Tensor:
        weights_BHRS, rows = weighting.of_block(q_BHRD, start, num_queries, k_BHSD)
        with torch.autocast(q_BHRD.device.type, enabled=False):
            return weighting.encoding.values(weights_BHRS, v_BHSD[:, :, rows.keys], rows).to(v_BGSD.dtype)

    if num_queries <= block:
        return output_of(q_BHTD, 0)
    blocks = zip(q_BHTD.split(block, dim=2), range(0, num_queries, block), strict=True)
    if is_under_torch_func():  # it does not support checkpoints, so everything is kept
        return torch.cat([output_of(*block) for block in blocks], dim=2)
    # Nothing here is random, so there is no random state to preserve for the recomputation.
    outputs = [checkpoint(output_of, *block, use_reentrant=False, preserve_rng_state=False) for block in blocks]
    return torch.cat(outputs, dim=2)


def in_float32_for_each_head(x_BGSD: Tensor, q_BHTD: Tensor) -> Tensor:
    """Return keys or values in float32 at least, repeated for the query heads that share them, (B, H, S, D)."""
    x_BGSD = x_BGSD.to(torch.promote_types(q_BHTD.dtype, torch.float32))
    group = q_BHTD.shape[1] // x_BGSD.shape[1]
    return x_BGSD.repeat_interleave(group, dim=1) if group > 1 else x_BGSD

"""Attention under a bias by FlexAttention: on a GPU one fused kernel with the bias inside, compiled for each form.

It is compiled for each length too, so queries and keys, with the biases and rules that it captures, are padded to whole
blocks: batches have many lengths. No captured number may change with the length.

Dimension letters: B batch, H query heads, G key-value heads, T queries, S keys, D head dim.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.attention.flex_attention import AuxRequest, BlockMask, create_block_mask, flex_attention

from poslab.attention.visibility import Visibility
from poslab.encodings.distance import BiasTable
from poslab.encodings.offsets import BiasOfLattice

MIN_HEAD_DIM = 16  # smallest head dimension that its kernel supports
BLOCK = 128  # queries, and keys, of a block of its masks
MAX_FORMS = 256  # largest number of argument forms for which a function is compiled


def attend_by_flex(
    q_BHTD: Tensor,
    k_BGSD: Tensor,
    v_BGSD: Tensor,
    bias: BiasTable | BiasOfLattice | None,
    pair_bias: Tensor | None,
    visibility: Visibility,
    scale: float,
    sinks_H: Tensor | None = None,
) -> Tensor:
    """Return the attention output, (B, H, T, D), zero for a query that sees nothing.

    The kernel sums the gradient of a bias by atomic additions, in an order that changes from run to run. ValueError for
    gradients on a CPU, where it has none.

    Args:
        q_BHTD, k_BGSD, v_BGSD: queries, keys and values of one dtype; G divides H.
        bias: bias of the distance or the offset, one number for each; None for none.
        pair_bias: bias of queries and keys, (1 or B, H, T, S); None for none.
        visibility: keys that each query sees.
        scale: factor on the products of queries and keys.
        sinks_H: logit of the sink of each query head; None for none.
    """
    num_queries, num_keys = q_BHTD.shape[2], k_BGSD.shape[2]
    more_queries, more_keys = -num_queries % BLOCK, -num_keys % BLOCK
    if isinstance(bias, BiasOfLattice):
        places = _with_last(bias.query_places, more_queries), _with_last(bias.key_places, more_keys)
        bias = BiasOfLattice(bias.values, *places)
    elif bias is not None:
        bias = BiasTable(_padded(bias.values, more_keys, more_queries), num_queries + more_queries)
    if pair_bias is not None:
        pair_bias = _padded(pair_bias, 0, more_keys, 0, more_queries)
    try:
        made = _fast(flex_attention, q_BHTD.device)(
            _padded(q_BHTD, 0, 0, 0, more_queries),
            _padded(k_BGSD, 0, 0, 0, more_keys),
            _padded(v_BGSD, 0, 0, 0, more_keys),
            score_mod=_score_mod(bias, pair_bias),
            block_mask=block_mask(visibility, num_queries, num_keys, q_BHTD.device),
            scale=scale,
            enable_gqa=q_BHTD.shape[1] != k_BGSD.shape[1],
            **({} if sinks_H is None else {"return_aux": AuxRequest(lse=True)}),
        )
    except NotImplementedError as error:  # training on a CPU
        raise ValueError(f"attention must not be flex here: {error}") from error
    output: Tensor = made if sinks_H is None else made[0]
    if sinks_H is not None:
        # Of the sum of exponentials with the sink, this share comes from the keys.
        output = (output * (made[1].lse - sinks_H.float().view(-1, 1)).sigmoid().unsqueeze(-1)).to(output.dtype)
    return output[:, :, :num_queries]


def _padded(x: Tensor, *sides: int) -> Tensor:
    """Pad with zeros as `functional.pad` does, but without a copy where there is no padding."""
    return functional.pad(x, sides) if any(sides) else x


def _with_last(x: Tensor, more: int) -> Tensor:
    """Repeat the last column of x."""
    return torch.cat([x, x[:, -1:].expand(-1, more)], dim=1) if more else x


def block_mask(visibility: Visibility, num_queries: int, num_keys: int, device: torch.device) -> BlockMask | None:
    """Return FlexAttention's mask of the blocks of keys that a block of queries sees; None if all see all.

    It is for queries and keys padded to whole blocks; no query sees a key of the padding. Made once for each
    visibility, and so for all layers that share it.
    """
    key = (num_queries, num_keys)
    if key not in visibility.block_masks:
        made = None
        more_queries, more_keys = -num_queries % BLOCK, -num_keys % BLOCK
        if more_keys or not visibility.hides_nothing(num_queries, num_keys):
            mask_mod = _mask_mod(visibility, num_queries, num_keys, device)
            rules_of_rows = [x for x in (visibility.key_segments, visibility.real_keys) if x is not None]
            rows = len(rules_of_rows[0]) if rules_of_rows else None
            # Compiled, it needs no T x S mask in between.
            made = _fast(create_block_mask, device)(
                mask_mod, rows, None, num_queries + more_queries, num_keys + more_keys, device=device
            )
        visibility.block_masks[key] = made
    return visibility.block_masks[key]


def _score_mod(bias: BiasTable | BiasOfLattice | None, pair_bias: Tensor | None) -> Callable[..., Tensor] | None:
    """Return the function that adds the bias to the scaled logit of query i and key j; None if there is no bias."""
    if bias is None and pair_bias is None:
        return None
    number = None if bias is None else _number(bias)
    values = None if bias is None else bias.values
    rows = 1 if pair_bias is None else len(pair_bias)

    def score_mod(score: Tensor, b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
        if values is not None and number is not None:
            score = score + values[h, number(b, i, j)]
        if pair_bias is not None:
            score = score + pair_bias[b if rows > 1 else 0, h, i, j]
        return score

    return score_mod


def _number(bias: BiasTable | BiasOfLattice) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """Return the function of row b, query i and key j that gives their number among the values of the bias."""
    if isinstance(bias, BiasTable):
        last_key = bias.num_keys - 1
        return lambda b, i, j: last_key + i - j
    query_places, key_places = bias.query_places, bias.key_places

    def difference(b: Tensor, i: Tensor, j: Tensor) -> Tensor:
        return query_places[b if len(query_places) > 1 else 0, i] - key_places[b if len(key_places) > 1 else 0, j]

    return difference


def _mask_mod(visibility: Visibility, num_queries: int, num_keys: int, device: torch.device) -> Callable[..., Tensor]:
    """Return the function that is True where query i sees key j, both padded to whole blocks."""
    more_queries, more_keys = -num_queries % BLOCK, -num_keys % BLOCK
    before = num_keys - num_queries  # keys before the first query
    causal, window = visibility.causal, visibility.window
    segments, rules_of_keys = visibility.query_segments, (visibility.key_segments, visibility.real_keys)
    query_segments = None if segments is None else _padded(segments, 0, more_queries)
    key_segments, real_keys = (None if x is None else _padded(x, 0, more_keys) for x in rules_of_keys)
    # Causality and `real_keys` exclude the padding; without both it needs its own rule, in a tensor, since a number
    # would be compiled in.
    real_S = None
    if more_keys and not causal and real_keys is None:
        real_S = torch.arange(num_keys + more_keys, device=device) < num_keys

    def mask_mod(b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
        distance = before + i - j
        visible = distance >= 0 if causal else distance == distance
        if window is not None:
            visible = visible & (distance.abs() < window)
        if query_segments is not None and key_segments is not None:
            visible = visible & (query_segments[b, i] == key_segments[b, j])
        if real_keys is not None:
            visible = visible & real_keys[b, j]
        if real_S is not None:
            visible = visible & real_S[j]
        return visible

    return mask_mod


def _fast(function: Callable[..., Any], device: torch.device) -> Callable[..., Any]:
    """Return the function, compiled on a GPU unless it is part of a compiled model already."""
    return _compiled(function) if device.type == "cuda" and not torch.compiler.is_compiling() else function


@functools.cache
def _compiled(function: Callable[..., Any], backend: Any = "inductor") -> Callable[..., Any]:
    compiled = torch.compile(function, dynamic=False, backend=backend)

    def call(*arguments: Any, **named: Any) -> Any:
        # After 8 forms of arguments PyTorch would stop compiling and fall back to a T x S matrix; numbers of blocks,
        # causal or not, trained or not, and rules of padding make more forms.
        with torch._dynamo.config.patch(recompile_limit=MAX_FORMS):
            return compiled(*arguments, **named)

    return call

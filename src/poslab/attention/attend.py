"""Attention under an encoding: one function, several routes to the same result.

Dimension letters: B batch, H query heads, G key-value heads (H is a multiple of G), T queries, S keys, D head dim,
E numbers of a token's state, N distances.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from poslab.attention import kernel
from poslab.attention.blockwise import BLOCK, Weighting, by_blocks
from poslab.attention.distance import attend_by_distance
from poslab.attention.flex import MIN_HEAD_DIM, attend_by_flex
from poslab.attention.operands import check_tables, for_one_batch
from poslab.attention.routes import Route, choose_route, route_under_bias
from poslab.attention.visibility import Visibility
from poslab.encodings.base import PositionalEncoding, QueryRows
from poslab.encodings.distance import BiasTable
from poslab.encodings.offsets import BiasOfLattice, BiasOfPositions, LogitBias
from poslab.encodings.shape import require_heads
from poslab.encodings.temperature import Temperature


def attend(
    q_BHTD: Tensor,
    k_BGSD: Tensor,
    v_BGSD: Tensor,
    encoding: PositionalEncoding,
    tables: Any,
    visibility: Visibility,
    route: Route = "auto",
    *,
    state_BHSE: Tensor | None = None,
    temperature: Temperature | None = None,
    sinks_H: Tensor | None = None,
    softcap: float | None = None,
) -> Tensor:
    """Return the attention output, (B, H, T, D), zero for a query that sees nothing.

    Queries, keys, values, tables, state and the tensors of visibility have B rows each, or one for all.

    Args:
        q_BHTD: queries, not rotated.
        k_BGSD, v_BGSD: keys, not rotated, and values; each of the G heads has H / G query heads.
        encoding: encoding of queries and keys.
        tables: result of `encoding.prepare` at their positions.
        visibility: keys that each query sees.
        route: forces a route; `auto` is the cheapest exact one.
        state_BHSE: result of `encoding.state` for the tokens of all keys; None if the encoding has no state.
        temperature: factor on the logits by the number of visible keys; None for none.
        sinks_H: logit of the attention sink of each query head, which joins the softmax of every query and has no
            value, so that weights sum to less than 1; None for none. Exact on every route. On a CPU the operator of the
            distance route computes what SDPA would, in O(T) memory; on a GPU FlexAttention does, and where it has no
            kernel, SDPA with a T x S mask.
        softcap: c of c tanh(logit / c), which replaces every logit, biases included (above 0; Gemma 2: 50).
            It makes the route blockwise.

    Raises:
        ValueError: if there is no such route, it is not exact for the encoding, or the arguments do not fit together.

    Examples:
        >>> from poslab.attention import Visibility, attend
        >>> from poslab.encodings import Alibi, Positions
        >>> q_BHTD, k_BGSD, v_BGSD = torch.randn(2, 8, 128, 64), torch.randn(2, 2, 128, 64), torch.randn(2, 2, 128, 64)
        >>> alibi, positions = Alibi(num_heads=8), Positions.range(128)
        >>> tables = alibi.prepare(positions, positions)  # once for all layers
        >>> attend(q_BHTD, k_BGSD, v_BGSD, alibi, tables, Visibility()).shape
        torch.Size([2, 8, 128, 64])
    """
    if softcap is not None:
        if route not in ("auto", "blockwise", "dense"):
            raise ValueError(f"attention must be auto, blockwise or dense under a soft cap, got {route}")
        route = "blockwise" if route == "auto" else route
    forced, route = route, choose_route(encoding, route)
    if (encoding.causal or encoding.causal_only) and not visibility.causal:
        name = type(encoding).__name__
        form = "it has no other form" if encoding.causal_only else f"make it by {name}(causal=False, ...)"
        raise ValueError(f"{name} was made for causal attention, and visibility is not causal: {form}")
    if encoding.bidirectional_only and visibility.causal:
        raise ValueError(f"{type(encoding).__name__} was made for bidirectional attention, and visibility is causal")
    q_BHTD, k_BGSD, v_BGSD, visibility, state_BHSE = for_one_batch(
        q_BHTD, k_BGSD, v_BGSD, encoding, tables, visibility, state_BHSE
    )
    if sinks_H is not None:
        _check_sinks(sinks_H, q_BHTD.shape[1], encoding)
    layer_tables = tables_of_layer(encoding, tables, state_BHSE, q_BHTD.shape[-2])
    q_BHTD, k_BGSD, scale = rotate_qk(q_BHTD, k_BGSD, encoding, layer_tables, visibility, temperature)
    v_BGSD = encoding.rotate_value(v_BGSD, layer_tables)
    weighting = Weighting(encoding, tables, visibility, scale, state_BHSE, sinks_H, softcap)
    y_BHTD = _averages(q_BHTD, k_BGSD, v_BGSD, weighting, route, forced)
    return encoding.rotate_output(y_BHTD, layer_tables)


def _check_sinks(sinks_H: Tensor, num_heads: int, encoding: PositionalEncoding) -> None:
    """Raise ValueError for sinks of another number of heads, and under an encoding without a softmax."""
    if sinks_H.shape != (num_heads,):
        raise ValueError(f"sinks must be ({num_heads},), a logit for each head of q, got {tuple(sinks_H.shape)}")
    if "weights" in encoding.hooks:
        raise ValueError(f"sinks need a softmax, which {type(encoding).__name__} replaces")


def in_short_form(bias: LogitBias | None) -> BiasTable | BiasOfLattice | None:
    """Return a bias that the distance route supports; raise ValueError for one that is a function of all pairs."""
    if isinstance(bias, BiasOfPositions):
        raise ValueError("attention must not be distance where positions are neither contiguous nor cells of a grid")
    return bias


def _averages(
    q_BHTD: Tensor, k_BGSD: Tensor, v_BGSD: Tensor, weighting: Weighting, route: Route, forced: Route
) -> Tensor:
    """Return the averages of values by attention, (B, H, T, D), of queries, keys and values that are rotated."""
    encoding, tables, visibility = weighting.encoding, weighting.tables, weighting.visibility
    scale, sinks_H = weighting.scale, weighting.sinks
    num_queries, num_keys = q_BHTD.shape[-2], k_BGSD.shape[-2]
    if not (q_BHTD.numel() and k_BGSD.numel()):
        gradients_of_zero = sum(x[..., :0].sum().to(v_BGSD.dtype) for x in (q_BHTD, k_BGSD, v_BGSD))
        return v_BGSD.new_zeros(*q_BHTD.shape[:3], v_BGSD.shape[-1]) + gradients_of_zero
    bias = encoding.bias(tables) if route in ("distance", "flex") else None
    if bias is not None:
        check_tables(bias, num_queries, num_keys, q_BHTD.device)
    if forced == "auto" and route == "distance":
        route = route_under_bias(bias, q_BHTD, num_keys)
    if route in ("blockwise", "dense"):
        return by_blocks(q_BHTD, k_BGSD, v_BGSD, weighting, num_queries if route == "dense" else BLOCK)
    if isinstance(scale, Tensor):
        q_BHTD, scale = (q_BHTD * scale).to(q_BHTD.dtype), 1.0
    if route == "flex":
        state = weighting.state
        of_queries = _of_queries(state, num_queries)
        rows = QueryRows(tables, slice(0, num_queries), num_keys - num_queries, scale, None, of_queries, state)
        return _by_flex(q_BHTD, k_BGSD, v_BGSD, bias, encoding.pair_bias(rows), visibility, scale, sinks_H)
    bias = in_short_form(bias)
    on_cpu = q_BHTD.device.type == "cpu"
    if (
        sinks_H is not None
        and not on_cpu
        and bias is None
        and num_queries == num_keys
        and q_BHTD.shape[-1] >= MIN_HEAD_DIM
    ):
        return _by_flex(q_BHTD, k_BGSD, v_BGSD, None, None, visibility, scale, sinks_H)
    if on_cpu and num_queries == num_keys and kernel.serves(q_BHTD, num_keys):
        return _by_distance(q_BHTD, k_BGSD, v_BGSD, bias, visibility, scale, sinks_H)
    if sinks_H is None and bias is None and visibility.hides_only_later_keys(num_queries, num_keys):
        return _scaled_dot_product(q_BHTD, k_BGSD, v_BGSD, scale=scale, is_causal=True)
    if sinks_H is None and bias is None and visibility.hides_nothing(num_queries, num_keys):
        return _scaled_dot_product(q_BHTD, k_BGSD, v_BGSD, scale=scale)
    if on_cpu:
        return _by_distance(q_BHTD, k_BGSD, v_BGSD, bias, visibility, scale, sinks_H)
    mask = visibility.mask(num_queries, num_keys, q_BHTD.device)
    if bias is not None:
        visible, matrix = mask, bias.matrix()
        mask = (matrix if visible is None else matrix.masked_fill(~visible, float("-inf"))).to(q_BHTD.dtype)
    if sinks_H is not None:
        k_BGSD, v_BGSD, mask = _with_sink(q_BHTD, k_BGSD, v_BGSD, mask, sinks_H)
    return _scaled_dot_product(q_BHTD, k_BGSD, v_BGSD, scale=scale, attn_mask=mask)


def rotate_qk(
    q_BHTD: Tensor,
    k_BGSD: Tensor,
    encoding: PositionalEncoding,
    tables: Any,
    visibility: Visibility,
    temperature: Temperature | None = None,
) -> tuple[Tensor, Tensor, float | Tensor]:
    """Return rotated queries and keys and the scale of their products, a number or (1 or B, 1 or H, T, 1).

    Arguments as in `attend`, with the tables of `tables_of_layer`. ValueError for a temperature of another number of
    heads.
    """
    scale: float | Tensor = q_BHTD.shape[-1] ** -0.5 * encoding.scale(tables)
    if temperature is not None:
        factor = temperature(visibility.counts(q_BHTD.shape[-2], k_BGSD.shape[-2], q_BHTD.device))
        require_heads("temperature", factor.shape[1], q_BHTD.shape[1])
        scale = scale * factor
    return encoding.rotate_query(q_BHTD, tables), encoding.rotate_key(k_BGSD, tables), scale


def tables_of_layer(encoding: PositionalEncoding, tables: Any, state_BHSE: Tensor | None, num_queries: int) -> Any:
    """Return the tables that the rotations of a layer read, by the state of the tokens of all keys, if there is one."""
    query_state = _of_queries(state_BHSE, num_queries)
    if state_BHSE is None or query_state is None:
        return tables
    return encoding.with_state(tables, query_state, state_BHSE)


def _of_queries(state_BHSE: Tensor | None, num_queries: int) -> Tensor | None:
    """Return the state of the last tokens, which are the queries: the same tensor if all are."""
    if state_BHSE is None or state_BHSE.shape[2] == num_queries:
        return state_BHSE
    return state_BHSE[:, :, state_BHSE.shape[2] - num_queries :]


def _scaled_dot_product(q_BHTD: Tensor, k_BGSD: Tensor, v_BGSD: Tensor, **arguments: Any) -> Tensor:
    grouped = q_BHTD.shape[1] != k_BGSD.shape[1]
    width = v_BGSD.shape[-1]
    v_BGSD = _widened(v_BGSD, q_BHTD.shape[-1])  # otherwise PyTorch's kernel needs T x S memory
    return functional.scaled_dot_product_attention(q_BHTD, k_BGSD, v_BGSD, enable_gqa=grouped, **arguments)[..., :width]


def _by_distance(
    q_BHTD: Tensor,
    k_BGSD: Tensor,
    v_BGSD: Tensor,
    bias: BiasTable | BiasOfLattice | None,
    visibility: Visibility,
    scale: float,
    sinks_H: Tensor | None,
) -> Tensor:
    width = v_BGSD.shape[-1]
    widest = max(q_BHTD.shape[-1], width)
    q_BHTD, k_BGSD, v_BGSD = (_widened(x, widest) for x in _in_one_dtype(q_BHTD, k_BGSD, v_BGSD))
    values_HN = None if bias is None else bias.for_heads(q_BHTD.shape[1])
    places = (bias.query_places, bias.key_places) if isinstance(bias, BiasOfLattice) else ()
    return attend_by_distance(q_BHTD, k_BGSD, v_BGSD, values_HN, visibility, scale, sinks_H, *places)[..., :width]


def _by_flex(
    q_BHTD: Tensor,
    k_BGSD: Tensor,
    v_BGSD: Tensor,
    bias: LogitBias | None,
    pair_bias: Tensor | None,
    visibility: Visibility,
    scale: float,
    sinks_H: Tensor | None,
) -> Tensor:
    if isinstance(bias, BiasTable | BiasOfLattice):
        bias = replace(bias, values=bias.for_heads(q_BHTD.shape[1]))
    elif bias is not None:
        matrix = bias.matrix()
        bias, pair_bias = None, matrix if pair_bias is None else matrix + pair_bias
    q_BHTD, k_BGSD, v_BGSD = _in_one_dtype(q_BHTD, k_BGSD, v_BGSD)
    return attend_by_flex(q_BHTD, k_BGSD, v_BGSD, bias, pair_bias, visibility, scale, sinks_H)


def _with_sink(
    q_BHTD: Tensor, k_BGSD: Tensor, v_BGSD: Tensor, mask: Tensor | None, sinks_H: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return keys and values with one more of zeros, and a mask that has its logit, (1 or B, H, T, S + 1)."""
    (_, num_heads, num_queries, _), num_keys = q_BHTD.shape, k_BGSD.shape[2]
    if mask is None:
        mask = q_BHTD.new_zeros(1, 1, 1, num_keys)
    elif mask.dtype == torch.bool:
        mask = q_BHTD.new_zeros(mask.shape).masked_fill(~mask, float("-inf"))
    mask = mask.expand(-1, num_heads, num_queries, -1)
    sink = sinks_H.to(mask.dtype).view(-1, 1, 1).expand(*mask.shape[:-1], 1)
    k_BGSD, v_BGSD = (functional.pad(x, (0, 0, 0, 1)) for x in (k_BGSD, v_BGSD))
    return k_BGSD, v_BGSD, torch.cat([mask, sink], dim=-1)


def _in_one_dtype(q_BHTD: Tensor, *others: Tensor) -> tuple[Tensor, ...]:
    """Cast to the dtype of autocast, which does not know Poslab's operators, or else to the dtype of the queries."""
    device = q_BHTD.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else q_BHTD.dtype
    return tuple(x.to(dtype) for x in (q_BHTD, *others))


def _widened(x: Tensor, width: int) -> Tensor:
    """Pad x with channels of zeros, so that a fused kernel accepts it."""
    return functional.pad(x, (0, width - x.shape[-1])) if x.shape[-1] < width else x

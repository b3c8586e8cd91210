"""How queries meet keys under an encoding: one function, several routes to the same result.

Dimension letters: B batch, H query heads, G key-value heads (H is a multiple of G), T queries, S keys, D head dim.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional

from poslab.attention.blockwise import BLOCK, by_blocks
from poslab.attention.distance import attend_by_distance
from poslab.attention.visibility import Visibility
from poslab.encodings.base import HOOKS, PositionalEncoding
from poslab.encodings.distance import BiasOfPairs, BiasTable
from poslab.encodings.temperature import Temperature

Route = Literal["flash", "distance", "blockwise", "dense"]

_LIGHT = frozenset({"embed", "rotate_query", "rotate_key", "scale"})

SERVED_HOOKS: dict[Route, frozenset[str]] = {
    "flash": _LIGHT,
    "distance": _LIGHT | {"bias"},
    "blockwise": frozenset(HOOKS),
    "dense": frozenset(HOOKS),
}
"""The hooks under which each route is exact, cheapest route first."""


def choose_route(encoding: PositionalEncoding, forced: Route | None = None) -> Route:
    """The cheapest route that is exact for an encoding, or the forced one.

    Raises:
        ValueError: if there is no such route, or it would leave out something that the encoding does.
    """
    if forced is None:
        return next(route for route, served in SERVED_HOOKS.items() if encoding.hooks <= served)
    if forced not in SERVED_HOOKS:
        raise ValueError(f"attention must be one of {', '.join(SERVED_HOOKS)} or null, got {forced}")
    left_out = ", ".join(sorted(encoding.hooks - SERVED_HOOKS[forced]))
    if left_out:
        name = type(encoding).__name__
        raise ValueError(f"attention must not be {forced}, which leaves out the {left_out} of {name}")
    return forced


def attend(
    q_BHTD: Tensor,
    k_BGSD: Tensor,
    v_BGSD: Tensor,
    encoding: PositionalEncoding,
    tables: Any,
    visibility: Visibility,
    route: Route | None = None,
    *,
    state_BHSE: Tensor | None = None,
    temperature: Temperature | None = None,
) -> Tensor:
    """Attention output, (B, H, T, D), zero for a query that sees nothing.

    Args:
        q_BHTD: queries, not rotated.
        k_BGSD, v_BGSD: keys, not rotated, and values; each of the G heads serves H / G query heads.
        encoding: what relates queries to keys.
        tables: what `encoding.prepare` made of their positions.
        visibility: which keys each query sees.
        route: forces a route; None takes the cheapest exact one.
        state_BHSE: what `encoding.state` made of the tokens of all keys; None if it remembers nothing.
        temperature: scales the logits by how many keys a query sees; None does not.

    Raises:
        ValueError: if there is no such route, or it is not exact for the encoding.
    """
    forced, route = route, choose_route(encoding, route)
    num_queries, num_keys = q_BHTD.shape[-2], k_BGSD.shape[-2]
    scale: float | Tensor = q_BHTD.shape[-1] ** -0.5 * encoding.scale(tables)
    if temperature is not None:
        scale = scale * temperature(visibility.counts(num_queries, num_keys, q_BHTD.device))
    q_BHTD = encoding.rotate_query(q_BHTD, tables)
    k_BGSD = encoding.rotate_key(k_BGSD, tables)
    bias = encoding.bias(tables) if route == "distance" else None
    if isinstance(bias, BiasOfPairs):
        if forced is not None:
            raise ValueError("attention must not be distance where positions are not contiguous")
        route = "blockwise"
    if route in ("blockwise", "dense"):
        block = num_queries if route == "dense" else BLOCK
        return by_blocks(q_BHTD, k_BGSD, v_BGSD, encoding, tables, visibility, scale, state_BHSE, block)
    if isinstance(scale, Tensor):
        q_BHTD, scale = (q_BHTD * scale).to(q_BHTD.dtype), 1.0
    if visibility.causal and visibility.in_storage_order and num_queries == num_keys and route == "flash":
        return _scaled_dot_product(q_BHTD, k_BGSD, v_BGSD, scale=scale, is_causal=True)
    if isinstance(bias, BiasTable) and q_BHTD.device.type == "cpu":
        return _by_distance(q_BHTD, k_BGSD, v_BGSD, bias, visibility, scale)
    mask = visibility.mask(num_queries, num_keys, q_BHTD.device)
    if bias is not None:
        mask = _additive_mask(bias.matrix(), mask).to(q_BHTD.dtype)
    return _scaled_dot_product(q_BHTD, k_BGSD, v_BGSD, scale=scale, attn_mask=mask)


def _scaled_dot_product(q_BHTD: Tensor, k_BGSD: Tensor, v_BGSD: Tensor, **arguments: Any) -> Tensor:
    grouped = q_BHTD.shape[1] != k_BGSD.shape[1]
    width = v_BGSD.shape[-1]
    v_BGSD = _widened(v_BGSD, q_BHTD.shape[-1])  # otherwise PyTorch takes another form, in T x S memory
    return functional.scaled_dot_product_attention(q_BHTD, k_BGSD, v_BGSD, enable_gqa=grouped, **arguments)[..., :width]


def _by_distance(
    q_BHTD: Tensor, k_BGSD: Tensor, v_BGSD: Tensor, bias: BiasTable, visibility: Visibility, scale: float
) -> Tensor:
    group, width = q_BHTD.shape[1] // k_BGSD.shape[1], v_BGSD.shape[-1]
    dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else q_BHTD.dtype
    widest = max(q_BHTD.shape[-1], width)
    q_BHTD, k_BHSD, v_BHSD = (_widened(x.to(dtype), widest) for x in (q_BHTD, k_BGSD, v_BGSD))
    if group > 1:
        k_BHSD, v_BHSD = (x.repeat_interleave(group, dim=1) for x in (k_BHSD, v_BHSD))
    return attend_by_distance(q_BHTD, k_BHSD, v_BHSD, bias.values, visibility, scale)[..., :width]


def _widened(x: Tensor, width: int) -> Tensor:
    """With zeros in further channels, so that a fused kernel takes it."""
    return functional.pad(x, (0, width - x.shape[-1])) if x.shape[-1] < width else x


def _additive_mask(bias: Tensor, visible: Tensor | None) -> Tensor:
    """The bias where a key is visible and minus infinity where it is not."""
    return bias if visible is None else bias.masked_fill(~visible, float("-inf"))

"""How queries meet keys under an encoding: one function, several routes to the same result.

Dimension letters: B batch, H query heads, G key-value heads (H is a multiple of G), T queries, S keys, D head dim.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional

from poslab.attention.visibility import Visibility
from poslab.encodings.base import PositionalEncoding

Route = Literal["flash", "bias", "dense"]

SERVED_HOOKS: dict[Route, frozenset[str]] = {
    "flash": frozenset({"embed", "rotate_query", "rotate_key"}),
    "bias": frozenset({"embed", "rotate_query", "rotate_key", "bias"}),
    "dense": frozenset({"embed", "rotate_query", "rotate_key", "bias"}),
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
) -> Tensor:
    """Attention output, (B, H, T, D), zero for a query that sees nothing.

    Args:
        q_BHTD: queries, not rotated.
        k_BGSD, v_BGSD: keys, not rotated, and values; each of the G heads serves H / G query heads.
        encoding: what relates queries to keys.
        tables: what `encoding.prepare` made of their positions.
        visibility: which keys each query sees.
        route: forces a route; None takes the cheapest exact one.

    Raises:
        ValueError: if there is no such route, or it is not exact for the encoding.
    """
    route = choose_route(encoding, route)
    q_BHTD = encoding.rotate_query(q_BHTD, tables)
    k_BGSD = encoding.rotate_key(k_BGSD, tables)
    if route == "dense":
        return _dense(q_BHTD, k_BGSD, v_BGSD, encoding, tables, visibility)
    num_queries, num_keys = q_BHTD.shape[-2], k_BGSD.shape[-2]
    if visibility.causal and visibility.in_storage_order and num_queries == num_keys and route == "flash":
        return _scaled_dot_product(q_BHTD, k_BGSD, v_BGSD, is_causal=True)
    mask = visibility.mask(num_queries, num_keys, q_BHTD.device)
    if route == "bias":
        bias = encoding.bias(tables)
        if bias is not None:
            mask = _additive_mask(bias.matrix(num_queries), mask).to(q_BHTD.dtype)
    return _scaled_dot_product(q_BHTD, k_BGSD, v_BGSD, attn_mask=mask)


def _scaled_dot_product(q_BHTD: Tensor, k_BGSD: Tensor, v_BGSD: Tensor, **arguments: Any) -> Tensor:
    grouped = q_BHTD.shape[1] != k_BGSD.shape[1]
    return functional.scaled_dot_product_attention(q_BHTD, k_BGSD, v_BGSD, enable_gqa=grouped, **arguments)


def _additive_mask(bias: Tensor, visible: Tensor | None) -> Tensor:
    """The bias where a key is visible and minus infinity where it is not."""
    return bias if visible is None else bias.masked_fill(~visible, float("-inf"))


def _dense(
    q_BHTD: Tensor,
    k_BGSD: Tensor,
    v_BGSD: Tensor,
    encoding: PositionalEncoding,
    tables: Any,
    visibility: Visibility,
) -> Tensor:
    """The definition, in float32 and T x S memory: what the other routes are tested against."""
    num_queries, num_keys = q_BHTD.shape[-2], k_BGSD.shape[-2]
    group = q_BHTD.shape[1] // k_BGSD.shape[1]
    with torch.autocast(q_BHTD.device.type, enabled=False):
        k_BHSD, v_BHSD = (x.repeat_interleave(group, dim=1).float() for x in (k_BGSD, v_BGSD))
        logits_BHTS = q_BHTD.float() @ k_BHSD.transpose(-2, -1) * q_BHTD.shape[-1] ** -0.5
        bias = encoding.bias(tables)
        if bias is not None:
            logits_BHTS = logits_BHTS + bias.matrix(num_queries)
        visible = visibility.mask(num_queries, num_keys, q_BHTD.device)
        if visible is None:
            weights_BHTS = logits_BHTS.softmax(dim=-1)
        else:
            # A finite fill keeps rows that see nothing free of NaN, also in their gradients; then they become zero.
            lowest = torch.finfo(logits_BHTS.dtype).min
            weights_BHTS = logits_BHTS.masked_fill(~visible, lowest).softmax(dim=-1).masked_fill(~visible, 0.0)
        return (weights_BHTS @ v_BHSD).to(v_BGSD.dtype)

"""How queries meet keys under an encoding: one function, several routes to the same result.

Dimension letters: B batch, H query heads, G key-value heads (H is a multiple of G), T queries, S keys, D head dim.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional

from poslab.attention.visibility import Visibility
from poslab.encodings.base import HOOKS, PositionalEncoding, QueryRows
from poslab.encodings.temperature import Temperature

Route = Literal["flash", "bias", "dense"]

_LIGHT = frozenset({"embed", "rotate_query", "rotate_key", "scale"})

SERVED_HOOKS: dict[Route, frozenset[str]] = {
    "flash": _LIGHT,
    "bias": _LIGHT | {"bias"},
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
    route = choose_route(encoding, route)
    num_queries, num_keys = q_BHTD.shape[-2], k_BGSD.shape[-2]
    scale: float | Tensor = q_BHTD.shape[-1] ** -0.5 * encoding.scale(tables)
    if temperature is not None:
        scale = scale * temperature(visibility.counts(num_queries, num_keys, q_BHTD.device))
    q_BHTD = encoding.rotate_query(q_BHTD, tables)
    k_BGSD = encoding.rotate_key(k_BGSD, tables)
    if route == "dense":
        rows = QueryRows(
            tables,
            slice(0, num_queries),
            num_queries,
            scale,
            visibility.mask(num_queries, num_keys, q_BHTD.device),
            None if state_BHSE is None else state_BHSE[:, :, num_keys - num_queries :],
            state_BHSE,
        )
        return _dense(q_BHTD, k_BGSD, v_BGSD, encoding, rows)
    if isinstance(scale, Tensor):
        q_BHTD, scale = (q_BHTD * scale).to(q_BHTD.dtype), 1.0
    if visibility.causal and visibility.in_storage_order and num_queries == num_keys and route == "flash":
        return _scaled_dot_product(q_BHTD, k_BGSD, v_BGSD, scale=scale, is_causal=True)
    mask = visibility.mask(num_queries, num_keys, q_BHTD.device)
    if route == "bias":
        bias = encoding.bias(tables)
        if bias is not None:
            mask = _additive_mask(bias.matrix(num_queries), mask).to(q_BHTD.dtype)
    return _scaled_dot_product(q_BHTD, k_BGSD, v_BGSD, scale=scale, attn_mask=mask)


def _scaled_dot_product(q_BHTD: Tensor, k_BGSD: Tensor, v_BGSD: Tensor, **arguments: Any) -> Tensor:
    grouped = q_BHTD.shape[1] != k_BGSD.shape[1]
    width = v_BGSD.shape[-1]
    if width < q_BHTD.shape[-1]:  # a fused kernel takes them alike; another form materialises T x S
        v_BGSD = functional.pad(v_BGSD, (0, q_BHTD.shape[-1] - width))
    return functional.scaled_dot_product_attention(q_BHTD, k_BGSD, v_BGSD, enable_gqa=grouped, **arguments)[..., :width]


def _additive_mask(bias: Tensor, visible: Tensor | None) -> Tensor:
    """The bias where a key is visible and minus infinity where it is not."""
    return bias if visible is None else bias.masked_fill(~visible, float("-inf"))


def _dense(q_BHTD: Tensor, k_BGSD: Tensor, v_BGSD: Tensor, encoding: PositionalEncoding, rows: QueryRows) -> Tensor:
    """The definition, in float32 at least and T x S memory: what the other routes are tested against."""
    group = q_BHTD.shape[1] // k_BGSD.shape[1]
    dtype = torch.promote_types(q_BHTD.dtype, torch.float32)
    with torch.autocast(q_BHTD.device.type, enabled=False):
        k_BHSD, v_BHSD = (x.repeat_interleave(group, dim=1).to(dtype) for x in (k_BGSD, v_BGSD))
        logits_BHTS = encoding.logits(q_BHTD.to(dtype), k_BHSD, rows)
        weights_BHTS = encoding.weights(logits_BHTS, rows.visible)
        return encoding.values(weights_BHTS, v_BHSD, rows).to(v_BGSD.dtype)

"""Choice of the route by which attention is computed.

Dimension letters: B batch, H query heads, T queries, S keys, D head dim.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor

from poslab.attention.flex import MIN_HEAD_DIM
from poslab.encodings.base import HOOKS, PositionalEncoding
from poslab.encodings.offsets import BiasOfPositions, LogitBias

Route = Literal["auto", "flash", "distance", "flex", "blockwise", "dense"]
"""Way to compute attention; `auto` is the cheapest route that is exact."""

_ROTATIONS = frozenset({"rotate_query", "rotate_key", "rotate_value", "rotate_output"})
_LIGHT = _ROTATIONS | {"embed", "remap_positions", "scale", "state", "with_state"}

SERVED_HOOKS: dict[Route, frozenset[str]] = {
    "flash": _LIGHT,
    "distance": _LIGHT | {"bias"},
    "flex": _LIGHT | {"bias", "pair_bias"},
    "blockwise": frozenset(HOOKS),
    "dense": frozenset(HOOKS),
}
"""Hooks under which each route is exact."""

_CHEAPEST_FIRST: tuple[Route, ...] = ("flash", "distance", "blockwise")


def choose_route(encoding: PositionalEncoding, forced: Route = "auto") -> Route:
    """Return the cheapest route that is exact for an encoding, or the forced one.

    Under a bias of distance the route depends on the positions as well: see `attend`.

    Raises:
        ValueError: if there is no such route, or it would leave out something that the encoding does.
    """
    if forced == "auto":
        return next(route for route in _CHEAPEST_FIRST if encoding.hooks <= SERVED_HOOKS[route])
    if forced not in SERVED_HOOKS:
        raise ValueError(f"attention must be one of {', '.join(get_args(Route))}, got {forced}")
    if left_out := ", ".join(sorted(encoding.hooks - SERVED_HOOKS[forced])):
        name = type(encoding).__name__
        raise ValueError(f"attention must not be {forced}, which leaves out the {left_out} of {name}")
    return forced


def route_under_bias(bias: LogitBias | None, q_BHTD: Tensor, num_keys: int) -> Route:
    """Return the cheapest route that is exact for a bias of distance.

    | tokens                                              | route                                          |
    | --------------------------------------------------- | ---------------------------------------------- |
    | at positions that are not contiguous, nor cells     | blockwise                                      |
    | on a CPU                                            | distance: its own operator, in O(T)      |
    | on a GPU, decoding with a cache, or in narrow heads | distance: SDPA with the bias as its T x S mask |
    | on a GPU, where a table learns deterministically    | blockwise                                      |
    | on a GPU otherwise                                  | flex                                           |
    """
    if isinstance(bias, BiasOfPositions):
        return "blockwise"
    if q_BHTD.device.type != "cuda" or bias is None or q_BHTD.shape[-2] != num_keys or q_BHTD.shape[-1] < MIN_HEAD_DIM:
        return "distance"
    return "blockwise" if bias.values.requires_grad and torch.are_deterministic_algorithms_enabled() else "flex"

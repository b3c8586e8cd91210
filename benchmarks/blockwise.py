"""The blockwise route by itself: its time over that of the dense one, and how its memory grows with the length."""

from __future__ import annotations

import statistics

import torch
from attention_layers import layer_size
from ours import encodings
from results import Results, Row
from turns import Call, ratio, take_turns

from poslab.attention import Route, Visibility, attend, choose_route
from poslab.encodings import Positions
from poslab.experiments.speed import peak_bytes

PART = "blockwise"
BLOCKWISE: Route = "blockwise"
DENSE: Route = "dense"
TIME_AT, MEMORY_AT = 2048, (4096, 8192)


def measure(
    results: Results, names: list[str], repeats: int, time_at: int = TIME_AT, memory_at: tuple[int, ...] = MEMORY_AT
) -> None:
    """Add the missing rows, for encodings whose cheapest route it is; in float32."""
    for name in names:
        if choose_route(encodings(name, layer_size(time_at)).layer(0)) != BLOCKWISE:
            continue
        shape: Row = {"part": PART, "precision": "float32", "encoding": name, "batch": 1}
        if results.missing({**shape, "contestant": BLOCKWISE, "length": time_at}):
            contestants: dict[str, Call] = {
                DENSE: call(name, time_at, DENSE),
                BLOCKWISE: call(name, time_at, BLOCKWISE),
            }
            take_turns(contestants, 1)
            seconds = take_turns(contestants, repeats)
            for way, own in seconds.items():
                figures = {"seconds": round(statistics.median(own), 5), "over_dense": ratio(own, seconds[DENSE])}
                results.add({**shape, "contestant": way, "length": time_at, **figures, "turns": repeats})
        for length in memory_at:
            row = {**shape, "contestant": BLOCKWISE, "length": length}
            if results.missing(row):
                results.add({**row, "peak_bytes": peak_bytes(call(name, length, BLOCKWISE))})


def call(name: str, length: int, route: Route) -> Call:
    """Return forward and backward of attention without projections, tables and state included.

    Projections would hide what the route itself costs.
    """
    torch.manual_seed(0)
    size = layer_size(length)
    stack = encodings(name, size).train()
    encoding = stack.layer(0)
    q, k, v, gradient = torch.randn(4, 1, size.num_heads, length, size.head_dim).unbind()
    q, k, v = (x.clone().requires_grad_() for x in (q, k, v))
    x_BTM = torch.randn(1, length, size.d_model)

    def forward_and_backward() -> None:
        positions = Positions.range(length)
        (tables,) = stack.prepare(positions, positions)
        state = encoding.state(x_BTM, positions, None) if "state" in encoding.hooks else None
        attend(
            q, k, v, encoding, tables, Visibility(), route, state_BHSE=state, temperature=stack.temperature(0)
        ).backward(gradient)
        stack.zero_grad()
        for leaf in (q, k, v):
            leaf.grad = None

    return forward_and_backward

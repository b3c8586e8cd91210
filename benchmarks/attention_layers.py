"""One attention layer under every encoding, over the same layer without any, beside peers: forward and backward."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from functools import partial

import torch
from affordable import Affordable
from ours import NONE, AttentionLayer, MaskedLayer, routes
from peers import peers_of
from results import Results, Row
from size import Size
from torch import nn
from turns import Call, now, ratio, seconds_of, take_turns

from poslab.experiments.speed import peak_bytes

PART = "layers"
NOTHING, OURS, MASK = "no encoding", "Poslab", "SDPA with a mask"
LENGTHS = [512, 1024, 2048, 4096, 8192, 16384]
MIN_ROTATIONS = 3
WARM_AFTER = 2.0
"""Seconds: a call that takes longer is not run again before it is measured."""


def layer_size(length: int) -> Size:
    """Return a layer of 8 heads of 64, and one sequence."""
    return Size(d_model=512, num_layers=1, num_heads=8, sequence_length=length, batch_size=1)


def measure(
    results: Results,
    dtypes: list[torch.dtype],
    encodings: list[str],
    lengths: list[int],
    repeats: int,
    seconds_per_cell: float,
) -> None:
    """Add the missing rows, encoding by encoding and length by length.

    Args:
        results: where they go.
        dtypes: float32, or bfloat16 for autocast.
        encodings: choices of conf/encoding.
        lengths: T, growing.
        repeats: turns of each, fewer (but 3) where they would take longer than `seconds_per_cell`.
        seconds_per_cell: a contestant of which one run takes longer is left out.
    """
    for dtype in dtypes:
        for encoding in encodings:
            makers = {name: partial(_call, make, dtype) for name, make in contestants(encoding).items()}
            affordable = {name: Affordable(make, seconds_per_cell) for name, make in makers.items()}
            for length in lengths:
                shape: Row = {"part": PART, "precision": str(dtype).removeprefix("torch."), "encoding": encoding}
                shape |= {"length": length, "batch": 1}
                if results.missing({**shape, "contestant": OURS}):
                    for row in _cell(affordable, length, repeats, seconds_per_cell):
                        route = {"route": routes(encoding, layer_size(length))} if row["contestant"] == OURS else {}
                        results.add({**shape, **row, **route})


def contestants(encoding: str) -> dict[str, Callable[[Size], nn.Module]]:
    """Return the layers that take turns, the one without an encoding first."""
    layers: dict[str, Callable[[Size], nn.Module]] = {
        NOTHING: partial(AttentionLayer, NONE),
        OURS: partial(AttentionLayer, encoding),
    }
    if encoding == NONE:
        layers[MASK] = MaskedLayer
    return layers | {peer.name: peer.attention for peer in peers_of(encoding) if peer.attention is not None}


def _cell(affordable: dict[str, Affordable], length: int, repeats: int, limit: float) -> list[dict[str, object]]:
    """Return the figures of all contestants at a length; none if the one without an encoding has none."""
    calls: dict[str, Call] = {}
    left_out: dict[str, str] = {}
    held: dict[str, int] = {}
    first: dict[str, float] = {}
    for name, kind in affordable.items():
        reason = left_out.get(NOTHING) or kind.reason_against(length)
        if reason is None:
            call = kind.make(length)
            # The first call, so that what is made once and kept counts too. One that takes long has warmed up with it.
            began = now()
            held[name] = peak_bytes(call)
            first[name] = now() - began
            if first[name] < WARM_AFTER:
                first[name] = seconds_of(call)
            calls[name] = call
            if first[name] > limit:
                reason = f"takes {first[name]:.0f} s a run"
                del calls[name], first[name]
        if reason is not None:
            left_out[name] = reason
    if NOTHING in left_out:
        calls, left_out = {}, {name: left_out.get(name, left_out[NOTHING]) for name in affordable}
    turns = max(min(MIN_ROTATIONS, repeats), min(repeats, int(limit // max(sum(first.values()), 1e-9))))
    seconds = take_turns(calls, turns)
    rows: list[dict[str, object]] = [
        {
            "contestant": name,
            "seconds": round(statistics.median(own), 5),
            "time": ratio(own, seconds[NOTHING]),
            "turns": turns,
            "peak_bytes": held[name],
            "memory": round(held[name] / held[NOTHING], 4),
        }
        for name, own in seconds.items()
    ]
    return rows + [{"contestant": name, "left_out": reason} for name, reason in left_out.items()]


def _call(make: Callable[[Size], nn.Module], dtype: torch.dtype, length: int) -> Call:
    """Return forward and backward of a layer, tables, biases and masks included."""
    torch.manual_seed(0)
    size = layer_size(length)
    layer = make(size).train()
    x_BTM = torch.randn(1, length, size.d_model).requires_grad_()
    gradient = torch.randn(1, length, size.d_model)

    def call() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
            y_BTM = layer(x_BTM)
        y_BTM.backward(gradient.to(y_BTM.dtype))
        layer.zero_grad()
        x_BTM.grad = None

    return call

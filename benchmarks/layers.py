"""One attention layer over the same layer without an encoding, beside peers: forward, backward and peak memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

import ours
import psutil
import torch
from ours import NONE, NOTHING, OURS, AttentionLayer, MaskedLayer
from peers import peers_of
from plan import Plan, Size
from results import Measurement, Results, Row
from torch import nn
from turns import Call, figures

PART = "layers"
MASK = "SDPA with a mask"
EXAMPLES = (NONE, "rotary", "alibi", "t5")
"""Encodings on fused routes, of which there are many that cost the same."""


def layers(plan: Plan, results: Results) -> Iterator[Measurement]:
    """Yield `EXAMPLES` and whatever takes the blockwise route, from short texts to long ones."""
    for precision in plan.layer_precisions:
        for encoding in plan.encodings:
            if encoding not in EXAMPLES and "blockwise" not in ours.routes(encoding, plan.layer):
                continue
            shorter: Row | None = None
            for length in plan.layer_lengths:
                cell: Row = {"part": PART, "precision": precision, "encoding": encoding, "length": length, "batch": 1}
                yield cell, partial(_rows, plan, results, cell, shorter)
                shorter = cell


def contestants(encoding: str) -> dict[str, Callable[[Size], nn.Module]]:
    """Return the layers that take turns, the one without an encoding first."""
    makers: dict[str, Callable[[Size], nn.Module]] = {
        NOTHING: partial(AttentionLayer, NONE),
        OURS: partial(AttentionLayer, encoding),
    }
    if encoding == NONE:
        makers[MASK] = MaskedLayer
    return makers | {peer.name: peer.attention for peer in peers_of(encoding) if peer.attention is not None}


def reason_against(shorter: Row, growth: float, limit: float, available: float) -> str | None:
    """Return the reason to leave out a call on longer texts; None if there is none.

    Args:
        shorter: row of the same contestant on shorter texts.
        growth: of the length; nothing grows by more than its square.
        limit: seconds of a call.
        available: bytes.
    """
    if "left_out" in shorter:
        return str(shorter["left_out"])
    seconds, peak = (growth**2 * shorter[key] for key in ("seconds", "peak_bytes"))
    if seconds > 2 * limit:  # most grow by less
        return f"would take up to {seconds:.0f} s a call"
    if peak > available:
        return f"would hold up to {peak / 2**30:.0f} GiB, where {available / 2**30:.0f} are free"
    return None


def _rows(plan: Plan, results: Results, cell: Row, shorter: Row | None) -> list[Row]:
    available = 0.8 * psutil.virtual_memory().available if plan.device == "cpu" else float("inf")
    before = {row["contestant"]: row for row in results.of(**shorter)} if shorter else {}
    makers, left_out = contestants(cell["encoding"]), {}
    for name in makers:
        if shorter is not None and name in before:
            growth = cell["length"] / shorter["length"]
            if reason := reason_against(before[name], growth, plan.limit, available):
                left_out[name] = reason
    size = plan.layer.of_length(cell["length"])
    calls = {name: _call(make, size, cell, plan.device) for name, make in makers.items() if name not in left_out}
    rows = figures(calls, {"time": NOTHING}, plan.few_turns, plan.device, plan.limit, left_out)
    return with_memory_over(NOTHING, rows, ours.routes(cell["encoding"], size))


def with_memory_over(baseline: str, rows: list[Row], routes: Sequence[str]) -> list[Row]:
    """Return rows with their peak memory over that of the baseline, and ours with its routes."""
    peaks: Mapping[str, int] = {row["contestant"]: row["peak_bytes"] for row in rows if "peak_bytes" in row}
    for row in rows:
        if baseline in peaks and row["contestant"] in peaks:
            row["memory"] = round(row["peak_bytes"] / peaks[baseline], 4)
        if row["contestant"] == OURS:
            row["route"] = list(routes)
    return rows


def _call(make: Callable[[Size], nn.Module], size: Size, cell: Row, device: str) -> Call:
    """Return forward and backward of a layer, tables, biases and masks included."""
    torch.manual_seed(0)
    layer = make(size).to(device).train()
    x_BTM = torch.randn(1, size.sequence_length, size.d_model, device=device).requires_grad_()
    gradient_BTM = torch.randn(1, size.sequence_length, size.d_model, device=device)

    def call() -> None:
        with torch.autocast(device, torch.bfloat16, enabled=cell["precision"] == "bfloat16"):
            y_BTM = layer(x_BTM)
        y_BTM.backward(gradient_BTM.to(y_BTM.dtype))
        layer.zero_grad()
        x_BTM.grad = None

    return call

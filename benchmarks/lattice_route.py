"""Biases of offsets on a grid: the lattice over PyTorch's attention, beside a mask and beside the bias of pairs.

Batch 4, 6 heads of 32, forward and backward, the making of the bias included; in float32.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable

import torch
from results import Results, Row
from torch.nn.functional import scaled_dot_product_attention
from turns import Call, ratio, take_turns

from poslab.attention import Visibility, attend
from poslab.encodings import OffsetBias, Positions, SwinV2Bias, T5Axes
from poslab.encodings.offsets import BiasOfOffsets
from poslab.experiments.speed import peak_bytes

PART = "lattice"
BATCH, HEADS, HEAD_DIM = 4, 6, 32
SIDES = (16, 32, 64)
NOTHING, LATTICE, MASK, PAIRS = "no encoding", "lattice", "as a mask", "pairs"
BIASES: dict[str, Callable[[int], OffsetBias]] = {
    "t5_axes": lambda side: T5Axes(HEADS, HEAD_DIM, HEADS * HEAD_DIM),
    "swin_v2": lambda side: SwinV2Bias(HEADS, [side, side]),
}
MAX_PAIRS = 1024
"""Most cells at which a bias is made of pairs: a network at 4,096 ** 2 of them takes minutes."""


def measure(results: Results, sides: tuple[int, ...], repeats: int) -> None:
    """Add the missing rows: seconds, their ratio to those without an encoding, and the peak memory of each way."""
    for name, make in BIASES.items():
        for side in sides:
            shape: Row = {
                "part": PART,
                "precision": "float32",
                "encoding": name,
                "length": side**2,
                "batch": BATCH,
            }
            if not results.missing({**shape, "contestant": LATTICE}):
                continue
            contestants = ways(make(side), side)
            memory = {way: peak_bytes(call) for way, call in contestants.items()}
            seconds = take_turns(contestants, repeats)
            for way, own in seconds.items():
                figures = {"seconds": round(statistics.median(own), 5), "time": ratio(own, seconds[NOTHING])}
                results.add({**shape, "contestant": way, **figures, "peak_bytes": memory[way], "turns": repeats})


def ways(bias: OffsetBias, side: int) -> dict[str, Call]:
    """Return forward and backward of each way."""
    torch.manual_seed(0)
    positions = Positions.grid(side, side)
    q, k, v = (torch.randn(BATCH, HEADS, side**2, HEAD_DIM).requires_grad_() for _ in range(3))
    gradient = torch.randn(BATCH, HEADS, side**2, HEAD_DIM)

    def backward(output: torch.Tensor) -> None:
        output.backward(gradient)
        for leaf in (q, k, v, *bias.parameters()):
            leaf.grad = None

    def nothing() -> None:
        backward(scaled_dot_product_attention(q, k, v))

    def lattice() -> None:
        backward(attend(q, k, v, bias, bias.prepare(positions, positions), Visibility(causal=False)))

    def mask() -> None:
        matrix = bias.prepare(positions, positions).matrix()
        backward(scaled_dot_product_attention(q, k, v, attn_mask=matrix))

    def pairs() -> None:
        tables = BiasOfOffsets(positions, positions, bias.bias_of)
        backward(attend(q, k, v, bias, tables, Visibility(causal=False)))

    made: dict[str, Call] = {NOTHING: nothing, LATTICE: lattice, MASK: mask}
    return made | {PAIRS: pairs} if side**2 <= MAX_PAIRS else made

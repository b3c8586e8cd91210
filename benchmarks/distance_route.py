"""The distance route by itself over PyTorch's causal attention: 8 heads of 64, forward and backward."""

from __future__ import annotations

import statistics

import torch
from results import Results, Row
from torch.nn.functional import scaled_dot_product_attention
from turns import Call, ratio, take_turns

from poslab.attention import Visibility
from poslab.attention.distance import attend_by_distance
from poslab.encodings import BiasTable

PART = "distance"
HEADS, HEAD_DIM = 8, 64
SHAPES = [(4, 1024), (2, 2048), (1, 4096)]
"""Batch and length."""
NOTHING, LEARNED, FIXED, MASK = "no encoding", "learned bias", "fixed bias", "as a mask"


def measure(results: Results, dtypes: list[torch.dtype], shapes: list[tuple[int, int]], repeats: int) -> None:
    """Add the missing rows: each way in seconds, and over the one without an encoding."""
    for dtype in dtypes:
        for batch, length in shapes:
            shape: Row = {
                "part": PART,
                "precision": str(dtype).removeprefix("torch."),
                "length": length,
                "batch": batch,
            }
            if not results.missing({**shape, "contestant": MASK}):
                continue
            contestants = ways(batch, length, dtype)
            take_turns(contestants, 1)
            seconds = take_turns(contestants, repeats)
            for name, own in seconds.items():
                figures = {"seconds": round(statistics.median(own), 5), "time": ratio(own, seconds[NOTHING])}
                results.add({**shape, "contestant": name, **figures, "turns": repeats})


def ways(batch: int, length: int, dtype: torch.dtype) -> dict[str, Call]:
    """Return forward and backward of each way; the mask is made of the learned bias, and hands its gradient back."""
    torch.manual_seed(0)
    q, k, v = (torch.randn(batch, HEADS, length, HEAD_DIM, dtype=dtype).requires_grad_() for _ in range(3))
    gradient = torch.randn(batch, HEADS, length, HEAD_DIM, dtype=dtype)
    learned = torch.randn(HEADS, 2 * length - 1).requires_grad_()
    fixed, scale = learned.detach(), HEAD_DIM**-0.5
    ahead = torch.ones(length, length, dtype=torch.bool).triu(1)

    def backward(output: torch.Tensor) -> None:
        output.backward(gradient)
        for leaf in (q, k, v, learned):
            leaf.grad = None

    def plain() -> None:
        backward(scaled_dot_product_attention(q, k, v, is_causal=True))

    def ours(bias: torch.Tensor) -> Call:
        return lambda: backward(attend_by_distance(q, k, v, bias, Visibility(), scale))

    def mask() -> None:
        matrix = BiasTable(learned, length).matrix().masked_fill(ahead, float("-inf")).to(dtype)
        backward(scaled_dot_product_attention(q, k, v, attn_mask=matrix))

    return {NOTHING: plain, LEARNED: ours(learned), FIXED: ours(fixed), MASK: mask}

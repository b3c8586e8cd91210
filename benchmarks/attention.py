"""Time of the distance route over causal attention without any encoding: `python benchmarks/attention.py`.

Forward and backward of 8 heads of 64, under a bias of distance that learns and under one that is fixed, and PyTorch's
attention with the same bias as a T x S mask. All take turns in one process; a ratio is that of two turns side by side.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from rich import box
from rich.console import Console
from rich.table import Table
from torch.nn.functional import scaled_dot_product_attention

from poslab.attention import Visibility
from poslab.attention.distance import attend_by_distance
from poslab.encodings import BiasTable

HEADS, HEAD_DIM = 8, 64
SHAPES = [(4, 1024), (2, 2048), (1, 4096)]
"""Batch and length."""


def ways(batch: int, length: int, dtype: torch.dtype) -> dict[str, Callable[[], None]]:
    """Forward and backward of each way, the one without an encoding first."""
    q, k, v = (torch.randn(batch, HEADS, length, HEAD_DIM, dtype=dtype).requires_grad_() for _ in range(3))
    gradient = torch.randn(batch, HEADS, length, HEAD_DIM, dtype=dtype)
    learned = torch.randn(HEADS, 2 * length - 1).requires_grad_()
    fixed, scale = learned.detach(), HEAD_DIM**-0.5
    ahead = torch.ones(length, length, dtype=torch.bool).triu(1)

    def plain() -> None:
        scaled_dot_product_attention(q, k, v, is_causal=True).backward(gradient)

    def ours(bias: torch.Tensor) -> Callable[[], None]:
        return lambda: attend_by_distance(q, k, v, bias, Visibility(), scale).backward(gradient)

    def mask() -> None:
        matrix = BiasTable(learned, length).matrix().masked_fill(ahead, float("-inf")).to(dtype)
        scaled_dot_product_attention(q, k, v, attn_mask=matrix).backward(gradient)

    return {"no encoding": plain, "learned bias": ours(learned), "fixed bias": ours(fixed), "as a mask": mask}


def measure(turns: dict[str, Callable[[], None]], repeats: int) -> dict[str, list[float]]:
    """The seconds of each way in each turn, without the first."""
    seconds: dict[str, list[float]] = {name: [] for name in turns}
    for turn in range(repeats + 1):
        for name, run in turns.items():
            began = time.perf_counter()
            run()
            if turn:
                seconds[name].append(time.perf_counter() - began)
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=7, help="turns that are measured")
    repeats = parser.parse_args().repeats
    torch.manual_seed(0)
    table = Table(box=box.SIMPLE_HEAD)
    for column in ("dtype", "batch", "T", "no encoding", "learned bias", "fixed bias", "as a mask"):
        table.add_column(column, justify="right")
    for dtype in (torch.float32, torch.bfloat16):
        for batch, length in SHAPES:
            seconds = measure(ways(batch, length, dtype), repeats)
            plain = seconds.pop("no encoding")
            ratios = [statistics.median(a / b for a, b in zip(s, plain, strict=True)) for s in seconds.values()]
            cells = [f"{statistics.median(plain) * 1e3:.0f} ms", *(f"{ratio:.2f}" for ratio in ratios)]
            table.add_row(str(dtype).removeprefix("torch."), str(batch), f"{length:,}", *cells)
    Console().print(table)


if __name__ == "__main__":
    main()

"""Attention alone, forward and backward: the compiled kernel, biases of distance and of offsets, the blockwise route.

Dimension letters: B batch, H heads, T tokens, D head dim, M model dim.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import ours
import torch
from ours import NOTHING
from plan import Plan
from results import Measurement, Results, Row
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from turns import Call, figures

from poslab.attention import Route, Visibility, attend, choose_route
from poslab.attention.distance import attend_by_distance
from poslab.encodings import BiasTable, OffsetBias, Positions, SwinV2Bias, T5Axes
from poslab.encodings.offsets import BiasOfOffsets

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
SDPA, KERNEL = "SDPA", "kernel"
LEARNED, FIXED, MASK = "learned bias", "fixed bias", "as a mask"
LATTICE, PAIRS = "lattice", "pairs"
BLOCKWISE: Route = "blockwise"
DENSE: Route = "dense"

GRID_BATCH, GRID_HEADS, GRID_HEAD_DIM = 4, 6, 32
BIASES: dict[str, Callable[[int], OffsetBias]] = {
    "t5_axes": lambda side: T5Axes(GRID_HEADS, GRID_HEAD_DIM, GRID_HEADS * GRID_HEAD_DIM),
    "swin_v2": lambda side: SwinV2Bias(GRID_HEADS, [side, side]),
}
MAX_PAIRS = 1024
"""Most patches at which a bias is made for each pair: a network at 4,096 ** 2 of them takes minutes."""


def kernel_alone(plan: Plan, results: Results) -> Iterator[Measurement]:
    """Yield causal attention without an encoding: `speed` is the seconds of PyTorch's over those of the kernel."""
    for cell, tensors in _cells("attention", plan.shapes):
        yield cell, partial(_kernel_rows, plan, *tensors)


def _kernel_rows(plan: Plan, shape: tuple[int, ...], dtype: torch.dtype) -> list[Row]:
    leaves, gradient = _leaves(shape, dtype)
    calls: dict[str, Call] = {
        KERNEL: lambda: _backward(attend_by_distance(*leaves, None, Visibility(), shape[-1] ** -0.5), gradient, leaves),
        SDPA: lambda: _backward(scaled_dot_product_attention(*leaves, is_causal=True), gradient, leaves),
    }
    return figures(calls, {"speed": KERNEL}, plan.turns)


def biases(plan: Plan, results: Results) -> Iterator[Measurement]:
    """Yield causal attention under a bias of distance: `time` is over that of PyTorch's without an encoding."""
    for cell, tensors in _cells("distance", plan.bias_shapes):
        yield cell, partial(_bias_rows, plan, *tensors)


def _bias_rows(plan: Plan, shape: tuple[int, ...], dtype: torch.dtype) -> list[Row]:
    leaves, gradient = _leaves(shape, dtype)
    _, heads, length, dim = shape
    learned = torch.randn(heads, 2 * length - 1).requires_grad_()
    ahead = torch.ones(length, length, dtype=torch.bool).triu(1)

    def by_distance(bias: Tensor) -> None:
        _backward(attend_by_distance(*leaves, bias, Visibility(), dim**-0.5), gradient, [*leaves, learned])

    def mask() -> None:
        matrix = BiasTable(learned, length).matrix().masked_fill(ahead, float("-inf")).to(dtype)
        _backward(scaled_dot_product_attention(*leaves, attn_mask=matrix), gradient, [*leaves, learned])

    calls: dict[str, Call] = {
        NOTHING: lambda: _backward(scaled_dot_product_attention(*leaves, is_causal=True), gradient, leaves),
        LEARNED: partial(by_distance, learned),
        FIXED: partial(by_distance, learned.detach()),
        MASK: mask,
    }
    return figures(calls, {"time": NOTHING}, plan.few_turns)


def offsets(plan: Plan, results: Results) -> Iterator[Measurement]:
    """Yield attention under biases of offsets on a grid, their making included, as `time` and peak memory."""
    for encoding in BIASES:
        for side in plan.sides:
            cell = {"part": "lattice", "precision": "float32", "encoding": encoding, "length": side**2}
            yield {**cell, "batch": GRID_BATCH}, partial(_offset_rows, plan, encoding, side)


def _offset_rows(plan: Plan, encoding: str, side: int) -> list[Row]:
    bias, positions = BIASES[encoding](side), Positions.grid(side, side)
    leaves, gradient = _leaves((GRID_BATCH, GRID_HEADS, side**2, GRID_HEAD_DIM), torch.float32)
    visibility = Visibility(causal=False)

    def under(tables: Callable[[], BiasOfOffsets]) -> None:
        _backward(attend(*leaves, bias, tables(), visibility), gradient, [*leaves, *bias.parameters()])

    def mask() -> None:
        matrix = bias.prepare(positions, positions).matrix()
        output = scaled_dot_product_attention(*leaves, attn_mask=matrix)
        _backward(output, gradient, [*leaves, *bias.parameters()])

    calls: dict[str, Call] = {
        NOTHING: lambda: _backward(scaled_dot_product_attention(*leaves), gradient, leaves),
        LATTICE: lambda: under(lambda: bias.prepare(positions, positions)),
        MASK: mask,
    }
    if side**2 <= MAX_PAIRS:
        calls[PAIRS] = lambda: under(lambda: BiasOfOffsets(positions, positions, bias.bias_of))
    return figures(calls, {"time": NOTHING}, plan.few_turns, plan.device)


def blockwise(plan: Plan, results: Results) -> Iterator[Measurement]:
    """Yield what takes the blockwise route: `over_dense` at one length, and peak memory at two others."""
    timed, *held = plan.blockwise_lengths
    for encoding in plan.encodings:
        if choose_route(ours.encodings(encoding, plan.layer.of_length(timed)).layer(0)) != BLOCKWISE:
            continue
        cell = {"part": "blockwise", "precision": "float32", "encoding": encoding, "batch": 1}
        yield {**cell, "length": timed}, partial(_blockwise_rows, plan, encoding, timed, (DENSE, BLOCKWISE))
        for length in held:
            yield {**cell, "length": length}, partial(_blockwise_rows, plan, encoding, length, (BLOCKWISE,))


def _blockwise_rows(plan: Plan, encoding: str, length: int, routes: Sequence[Route]) -> list[Row]:
    calls = {route: _route_call(plan, encoding, length, route) for route in routes}
    if len(calls) > 1:
        return figures(calls, {"over_dense": DENSE}, plan.few_turns)
    return figures(calls, {}, 1, plan.device)


def _route_call(plan: Plan, encoding: str, length: int, route: Route) -> Call:
    """Return forward and backward of attention with tables and state, but without projections, which would hide it."""
    size = plan.layer.of_length(length)
    stack = ours.encodings(encoding, size).train()
    layer = stack.layer(0)
    leaves, gradient = _leaves((1, size.num_heads, length, size.head_dim), torch.float32)
    x_BTM = torch.randn(1, length, size.d_model)

    def call() -> None:
        positions = Positions.range(length)
        (tables,) = stack.prepare(positions, positions)
        state = layer.state(x_BTM, positions, None) if "state" in layer.hooks else None
        output = attend(*leaves, layer, tables, Visibility(), route, state_BHSE=state, temperature=stack.temperature(0))
        _backward(output, gradient, [*leaves, *stack.parameters()])

    return call


def _cells(
    part: str, shapes: Sequence[tuple[int, int, int, int]]
) -> Iterator[tuple[Row, tuple[tuple[int, ...], torch.dtype]]]:
    """Yield a cell for each dtype and shape, (B, H, T, D)."""
    for precision, dtype in DTYPES.items():
        for shape in shapes:
            batch, heads, length, dim = shape
            cell = {"part": part, "precision": precision, "length": length, "batch": batch}
            yield {**cell, "heads": heads, "head_dim": dim}, (shape, dtype)


def _leaves(shape: tuple[int, ...], dtype: torch.dtype) -> tuple[list[Tensor], Tensor]:
    """Return queries, keys and values that learn, (B, H, T, D), and the gradient of their output."""
    torch.manual_seed(0)
    q_BHTD, k_BHTD, v_BHTD, gradient_BHTD = torch.randn(4, *shape, dtype=dtype).unbind()
    return [x.clone().requires_grad_() for x in (q_BHTD, k_BHTD, v_BHTD)], gradient_BHTD


def _backward(output_BHTD: Tensor, gradient_BHTD: Tensor, leaves: Sequence[Tensor]) -> None:
    """Make the backward pass, and drop its gradients."""
    output_BHTD.backward(gradient_BHTD)
    for leaf in leaves:
        leaf.grad = None

"""A compiled training step over what the machine's matrix products alone would take, and beside a compiled Llama.

The products are those of the model's linear layers, forward and backward, in the precision and at the shapes of the
step. The step has to do more than them: attention, which counts in the FLOPs of a token, and norms, activations, loss
and optimizer, which do not. On a CPU a profile says how much of a step each takes. Llama is compiled whole, and layer
by layer.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import ours
import torch
from ours import OURS
from peers import Llama
from plan import PRECISIONS, Plan, Size
from results import Measurement, Results, Row
from steps import ENCODING, LLAMA, PlainLoop, random_batch
from torch import nn
from torch.profiler import ProfilerActivity, profile
from turns import Call, figures

PRODUCTS, LLAMA_LAYERS = "matrix products", "Llama, layers compiled"
PROFILED = 5
"""Steps of a profile."""

KINDS = {
    PRODUCTS: ("aten::mm", "aten::addmm", "aten::bmm", "mkldnn::_linear"),
    "attention": ("aten::_scaled_dot_product", "poslab::distance_attention", "poslab_kernel::"),
    "loops of the compiler": ("## Call CompiledFxGraph",),
}
"""Beginnings of the names of a profile, by what a step does."""

OTHERS = "loss, optimizer and others"


def compiled(plan: Plan, results: Results) -> Iterator[Measurement]:
    """Yield a step under torch.compile in each precision.

    `speed` is the seconds of a contestant over ours, and `share` in ours the speed over that of the products.
    """
    for precision in PRECISIONS:
        cell: Row = {"part": "compiled", "precision": precision, "encoding": ENCODING}
        cell |= {"length": plan.size.sequence_length, "batch": plan.size.batch_size}
        yield cell, partial(_rows, plan, precision)


def _rows(plan: Plan, precision: str) -> list[Row]:
    torch._dynamo.reset()
    size, batch = plan.size, random_batch(plan.size, plan.device)
    model = ours.decoder(ENCODING, size)
    loops = {
        OURS: PlainLoop(model, precision, plan.device, compiled=True),
        LLAMA: PlainLoop(Llama(size), precision, plan.device, compiled=True),
        LLAMA_LAYERS: PlainLoop(Llama(size).with_compiled_layers(), precision, plan.device),
    }
    calls: dict[str, Call] = {name: partial(loop.step, batch) for name, loop in loops.items()}
    for _ in range(2):  # the first steps compile
        for step in calls.values():
            step()
    calls[PRODUCTS] = products(model, size, precision, plan.device)
    rows = figures(calls, {"speed": OURS, "over_products": PRODUCTS}, plan.turns)
    (step_row,) = (row for row in rows if row["contestant"] == OURS)
    if "over_products" in step_row:
        growth = flops_per_token(model, size) / flops_of_products(model)
        step_row["share"] = [round(growth / quartile, 4) for quartile in reversed(step_row["over_products"])]
        if plan.device == "cpu":
            step_row["profile"] = profile_of(calls[OURS])
    return rows


def profile_of(step: Call) -> dict[str, float]:
    """Return the share of the time of a CPU that each of `KINDS` takes in some steps, and `OTHERS`."""
    with profile(activities=[ProfilerActivity.CPU]) as recorded:
        for _ in range(PROFILED):
            step()
    microseconds = dict.fromkeys([*KINDS, OTHERS], 0.0)
    for event in recorded.key_averages():
        kind = next((kind for kind, names in KINDS.items() if event.key.startswith(names)), OTHERS)
        microseconds[kind] += event.self_cpu_time_total
    return {kind: round(time / sum(microseconds.values()), 4) for kind, time in microseconds.items()}


def linear_shapes(model: nn.Module) -> list[tuple[int, int]]:
    """Return inputs and outputs of each linear layer; tied weights are a product all the same."""
    return [(m.in_features, m.out_features) for m in model.modules() if isinstance(m, nn.Linear)]


def flops_of_products(model: nn.Module) -> int:
    """Return those of the linear layers and a token: a product and a sum a weight, forward and twice backward."""
    return sum(6 * inputs * outputs for inputs, outputs in linear_shapes(model))


def flops_per_token(model: nn.Module, size: Size) -> int:
    """Return those of the linear layers and of causal attention: two products of T/2 keys with D channels a head."""
    attention = 6 * 2 * size.num_layers * size.d_model * size.sequence_length // 2
    return flops_of_products(model) + attention


def products(model: nn.Module, size: Size, precision: str, device: str) -> Call:
    """Return the matrix products of the linear layers in a step: output, and gradients of inputs and weights."""
    dtype = torch.bfloat16 if precision == "bf16-mixed" else torch.float32
    operands = [
        tuple(
            torch.randn(shape, dtype=dtype, device=device)
            for shape in ((size.tokens, inputs), (outputs, inputs), (size.tokens, outputs))
        )
        for inputs, outputs in linear_shapes(model)
    ]

    def call() -> None:
        for x, weight, gradient in operands:
            x @ weight.mT
            gradient @ weight
            gradient.mT @ x

    return call

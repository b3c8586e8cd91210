"""A compiled training step in bf16-mixed over what the machine's matrix products alone would take, and what it does.

The products are those of the model's own linear layers, forward and backward, in bfloat16 and at its own shapes; they
take turns with the step. The step has to do more than them: attention, which counts in the FLOPs of a token, and
norms, activations, loss and optimizer, which do not. A profile says how much of a step each takes.
"""

from __future__ import annotations

import statistics
from functools import partial

import ours
import torch
from plain_loop import PlainLoop, device, random_batch
from results import Results, Row
from size import Size
from torch import nn
from torch.profiler import ProfilerActivity, profile
from turns import Call, ratio, take_turns

PART = "compiled"
PRECISION = "bf16-mixed"
STEP, PRODUCTS = "Poslab, compiled", "matrix products"
PROFILED = 5
"""Steps of a profile."""

KINDS = {
    "matrix products": ("aten::mm", "aten::addmm", "aten::bmm", "mkldnn::_linear"),
    "attention": ("aten::_scaled_dot_product", "poslab::distance_attention"),
    "loops of the compiler": ("## Call CompiledFxGraph",),
}
"""Beginnings of the names of a profile, by what a step does."""

OTHERS = "loss, optimizer and others"


def measure(results: Results, encodings: list[str], size: Size, steps: int) -> None:
    """Add the missing rows: seconds of a step, and its tokens a second over those of the products (`share`).

    On a CPU that of the step has a `profile` too.

    Args:
        results: where they go.
        encodings: choices of conf/encoding.
        size: of models and batches.
        steps: how many of each are measured.
    """
    batch = random_batch(size)
    for encoding in encodings:
        shape: Row = {"part": PART, "precision": PRECISION, "encoding": encoding}
        shape |= {"length": size.sequence_length, "batch": size.batch_size}
        if not results.missing({**shape, "contestant": STEP}):
            continue
        torch._dynamo.reset()
        model = ours.decoder(encoding, size)
        calls: dict[str, Call] = {
            PRODUCTS: products(model, size),
            STEP: partial(PlainLoop(model, PRECISION, compiled=True).step, batch),
        }
        for _ in range(3):  # the first steps compile
            take_turns(calls, 1)
        seconds = take_turns(calls, steps)
        of_products = flops_of_products(model) * size.tokens
        of_step = flops_per_token(model, size) * size.tokens
        # What the step would take at the speed of the products, over what it takes.
        ideal = [own * of_step / of_products for own in seconds[PRODUCTS]]
        for name, own in seconds.items():
            row = {**shape, "contestant": name, "seconds": round(statistics.median(own), 5), "turns": steps}
            flops = of_step if name == STEP else of_products
            row["flops_per_second"] = round(flops / statistics.median(own))
            if name == STEP:
                row["tokens_per_second"] = round(size.tokens / statistics.median(own))
                row["share"] = ratio(ideal, own)
                if device() == "cpu":
                    row["profile"] = profile_of(calls[STEP])
            results.add(row)


def profile_of(step: Call) -> dict[str, float]:
    """Return the share of the time of a CPU that each of `KINDS` takes in some steps, and `OTHERS`."""
    with profile(activities=[ProfilerActivity.CPU]) as recorded:
        for _ in range(PROFILED):
            step()
    microseconds = dict.fromkeys([*KINDS, OTHERS], 0.0)
    for event in recorded.key_averages():
        kind = next((kind for kind, names in KINDS.items() if event.key.startswith(names)), OTHERS)
        microseconds[kind] += event.self_cpu_time_total
    return {kind: round(own / sum(microseconds.values()), 4) for kind, own in microseconds.items()}


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


def products(model: nn.Module, size: Size) -> Call:
    """Return the matrix products of the linear layers in a step: output, and gradients of inputs and weights."""
    operands = [
        tuple(
            torch.randn(shape, dtype=torch.bfloat16, device=device())
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

"""A compiled model gives what it gives uncompiled: its output, and the gradient of each parameter."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from poslab.attention.routes import choose_route
from poslab.encodings import LayerPattern
from poslab.models import Decoder, Encoder
from tests.encoding_choices import EVERY_ENCODING, OF_ENCODERS, described, factory, small_model, some_tokens

LENGTH = 20
EACH_KIND = ("abacus", "none", "rotary", "rotary_values", "selective_rotary", "sinusoidal", "t5")
"""Of each kind that attends by a fused route."""


def output_and_gradients(model: Decoder | Encoder, forward: Callable[..., Any]) -> list[Tensor]:
    y = forward(some_tokens(2, LENGTH))
    parameters = list(model.parameters())
    weight = torch.linspace(-1, 1, y.numel()).view_as(y)
    return [y, *torch.autograd.grad((y * weight).sum(), parameters, allow_unused=True, materialize_grads=True)]


def assert_compiled_is_eager(name: str, backend: str) -> None:
    torch._dynamo.reset()
    choice = factory(name)
    num_layers = len(LayerPattern.of(choice).kinds)
    model = small_model(Encoder if name in OF_ENCODERS else Decoder, name, num_layers=num_layers)
    expected = output_and_gradients(model, model)
    actual = output_and_gradients(model, torch.compile(model, backend=backend, fullgraph=True))
    for ours, theirs in zip(actual, expected, strict=True):
        # Of the largest number of its tensor: each is a sum of such, and a compiler may take them in another order.
        torch.testing.assert_close(ours, theirs, rtol=0, atol=2e-5 * max(1.0, theirs.abs().max().item()))


@pytest.mark.slow
@pytest.mark.parametrize("name", [*EVERY_ENCODING, *OF_ENCODERS])
def test_under_every_encoding_a_traced_model_is_the_eager_one(name):
    """As torch.compile traces it: forward and backward where an encoding computes with content, else forward.

    All others are tables and operators of PyTorch: their derivatives are traced under one of each kind.
    """
    is_traced_backward = name in OF_ENCODERS or choose_route(described(name)) == "blockwise" or name in EACH_KIND
    assert_compiled_is_eager(name, "aot_eager" if is_traced_backward else "eager")


@pytest.mark.slow
@pytest.mark.parametrize(("name", "is_optimised"), [("deberta", False), ("rotary", True), ("t5", True)])
def test_under_encodings_of_each_kind_a_compiled_model_is_the_eager_one(name, is_optimised, monkeypatch):
    """As the training loop compiles it, with what inductor asserts of the strides of each result."""
    if is_optimised:  # what content computes is a kernel that takes half a minute
        monkeypatch.delenv("TORCHINDUCTOR_DEBUG_COMPILE")
    assert_compiled_is_eager(name, "inductor")

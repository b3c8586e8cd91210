"""A compiled model gives what it gives uncompiled: its output, and the gradient of each parameter."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from poslab.encodings import LayerPattern
from poslab.models import Decoder, Encoder
from tests.encoding_choices import EVERY_ENCODING, OF_ENCODERS, factory, small_model, some_tokens

LENGTH = 20


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
    """Forward and backward as torch.compile traces them, without the half minute in which a C++ compiler starts."""
    assert_compiled_is_eager(name, "aot_eager")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["deberta", "fire", "kerple_log", "rotary", "t5"])
def test_under_encodings_of_each_kind_a_compiled_model_is_the_eager_one(name, monkeypatch):
    """As the training loop compiles it, optimised, with what inductor asserts of the strides of each result."""
    monkeypatch.delenv("TORCHINDUCTOR_DEBUG_COMPILE")
    assert_compiled_is_eager(name, "inductor")

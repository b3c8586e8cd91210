"""Checks of an encoding's parameters and gradients."""

from __future__ import annotations

import copy

import torch
from torch import nn

from poslab.encodings import Positions, StackEncodings
from poslab.testing.float64 import Float64
from poslab.testing.outputs import assert_near, attended, weighted_sum
from poslab.testing.subject import LENGTH, Subject, some_tokens


def check_a_gradient_reaches_every_parameter(subject: Subject) -> None:
    """Require a finite gradient, somewhere not zero, for each parameter of the encoding and of the temperature."""
    decoder, tokens = subject.decoder().train(), some_tokens()
    logits = decoder(tokens[:, :-1]).flatten(0, 1)
    nn.functional.cross_entropy(logits, tokens[:, 1:].flatten()).backward()
    for name, parameter in decoder.encodings.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().max() > 0, f"no gradient reaches {name}"
        assert parameter.grad.isfinite().all(), f"the gradient of {name} is not finite"


def check_gradients_are_derivatives(subject: Subject) -> None:
    """Compare, in float64, gradients along a random direction with the difference of two outputs."""
    for causal in subject.directions:
        for contiguous in (True, False):
            positions = Positions(torch.arange(LENGTH), LENGTH, contiguous)
            encodings, x = subject.stack(causal).double(), subject.inputs.double().requires_grad_()
            apart = {id(encoding.get_parameter(name)) for encoding in encodings for name in encoding.straight_through}
            sources = [x, *(parameter for parameter in encodings.parameters() if id(parameter) not in apart)]
            generator = torch.Generator().manual_seed(10)
            direction = [torch.randn(source.shape, generator=generator, dtype=source.dtype) for source in sources]
            with Float64():
                y = weighted_sum(torch.stack(attended(subject, encodings, positions, causal, x)))
                gradients = torch.autograd.grad(y, sources, allow_unused=True, materialize_grads=True)
                flow = torch.stack([(g * d).sum() for g, d in zip(gradients, direction, strict=True)]).sum()
                ends = []
                with torch.no_grad():
                    for step in (-1e-6, 2e-6):  # to either side
                        for source, d in zip(sources, direction, strict=True):
                            source.add_(step * d)
                        ends.append(weighted_sum(torch.stack(attended(subject, encodings, positions, causal, x))))
                assert_near(flow, (ends[1] - ends[0]) / 2e-6, 1e-7, "a gradient against the difference of two outputs")


def check_a_state_dict_makes_the_same_encoding(subject: Subject) -> None:
    """Require a state dict of parameters alone that restores the encoding: tables are made again from them."""
    one = subject.stack()
    assert set(one.state_dict()) == {name for name, _ in one.named_parameters()}, "state_dict holds tables"
    torch.manual_seed(9)
    other = StackEncodings(subject.factory, subject.shape(), subject.temperature).eval()
    other.load_state_dict(copy.deepcopy(one.state_dict()))
    positions = Positions.range(LENGTH)
    for ours, expected in zip(attended(subject, other, positions), attended(subject, one, positions), strict=True):
        assert torch.equal(ours, expected), "the same state_dict gives another output"

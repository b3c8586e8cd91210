"""Checks of an encoding's parameters and gradients."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn

from poslab.encodings import Positions, StackEncodings
from poslab.testing.outputs import Float64, assert_near, attended, weighted_sum
from poslab.testing.subject import LENGTH, Subject, some_tokens


def check_a_gradient_reaches_every_parameter(subject: Subject) -> None:
    """Require a finite gradient, somewhere not zero, for each parameter of the encoding and of the temperature.

    It may come from a text, or from a grid behind a token without a position.
    """
    model, tokens = subject.model().train(), some_tokens()
    for positions in [None, *(Positions.grid(*sizes).behind(1) for sizes in subject.grids)]:
        read = tokens if positions is None else nn.functional.pad(tokens, (1, 0))
        logits = model(read, positions)[:, :-1].flatten(0, 1)
        nn.functional.cross_entropy(logits, read[:, 1:].flatten()).backward()
    for name, parameter in model.encodings.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().max() > 0, f"no gradient reaches {name}"
        assert parameter.grad.isfinite().all(), f"the gradient of {name} is not finite"


def check_gradients_are_derivatives(subject: Subject) -> None:
    """Compare, in float64, gradients along a random direction with the difference of two outputs.

    At a kink of an encoding, such as that of a ReLU, the two differ: they must agree at one of two points.
    """
    for causal in subject.directions:
        for contiguous in (True, False):
            positions = Positions(torch.arange(LENGTH), LENGTH, contiguous)
            encodings, x = subject.new_stack(causal).double(), subject.inputs.double().requires_grad_()
            apart = {id(encoding.get_parameter(name)) for encoding in encodings for name in encoding.straight_through}
            sources = [x, *(parameter for parameter in encodings.parameters() if id(parameter) not in apart)]
            generator = torch.Generator().manual_seed(10)
            direction = [torch.randn(source.shape, generator=generator, dtype=source.dtype) for source in sources]

            def output(encodings: StackEncodings = encodings, positions: Positions = positions) -> Tensor:
                return weighted_sum(torch.stack(attended(subject, encodings, positions, encodings.shape.causal, x)))  # noqa: B023

            said = "a gradient against the difference of two outputs"
            with Float64():
                try:
                    assert_near(*_slopes(output, sources, direction), 1e-7, said)
                except AssertionError:
                    _move(sources, direction, 0.01)
                    assert_near(*_slopes(output, sources, direction), 1e-7, said)


def _slopes(output: Callable[[], Tensor], sources: list[Tensor], direction: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Return the slope of an output along a direction, by its gradients and by a difference."""
    gradients = torch.autograd.grad(output(), sources, allow_unused=True, materialize_grads=True)
    flow = torch.stack([(g * d).sum() for g, d in zip(gradients, direction, strict=True)]).sum()
    with torch.no_grad():
        _move(sources, direction, -1e-6)
        before = output()
        _move(sources, direction, 2e-6)
        return flow, (output() - before) / 2e-6


@torch.no_grad()
def _move(sources: list[Tensor], direction: list[Tensor], step: float) -> None:
    for source, d in zip(sources, direction, strict=True):
        source.add_(step * d)


def check_a_state_dict_makes_the_same_encoding(subject: Subject) -> None:
    """Require a state dict of parameters alone that restores the encoding: tables are made again from them."""
    encodings = subject.stack()
    assert set(encodings.state_dict()) == {name for name, _ in encodings.named_parameters()}, "state_dict holds tables"
    torch.default_generator.manual_seed(9)
    other = StackEncodings(subject.factory, encodings.shape, subject.temperature).eval()
    other.load_state_dict(copy.deepcopy(encodings.state_dict()))
    positions = Positions.range(LENGTH)
    for ours, expected in zip(
        attended(subject, other, positions), attended(subject, encodings, positions), strict=True
    ):
        assert torch.equal(ours, expected), "the same state_dict gives another output"

"""Claims on what an encoding learns."""

from __future__ import annotations

import copy

import torch
from torch import nn

from poslab.encodings import Positions, StackEncodings
from poslab.testing.outputs import attended
from poslab.testing.subject import LENGTH, Subject, some_tokens


def check_a_gradient_reaches_every_parameter(subject: Subject) -> None:
    """Of the encoding and of the temperature."""
    decoder, tokens = subject.decoder().train(), some_tokens()
    logits = decoder(tokens[:, :-1]).flatten(0, 1)
    nn.functional.cross_entropy(logits, tokens[:, 1:].flatten()).backward()
    for name, parameter in decoder.encodings.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().max() > 0, f"no gradient reaches {name}"
        assert parameter.grad.isfinite().all(), f"the gradient of {name} is not finite"


def check_a_state_dict_makes_the_same_encoding(subject: Subject) -> None:
    """And holds parameters alone: tables are made again, wherever a checkpoint is read."""
    one = subject.stack()
    assert set(one.state_dict()) == {name for name, _ in one.named_parameters()}, "state_dict holds tables"
    torch.manual_seed(9)
    other = StackEncodings(subject.factory, subject.shape(), subject.temperature)
    other.load_state_dict(copy.deepcopy(one.state_dict()))
    positions = Positions.range(LENGTH)
    for ours, expected in zip(attended(subject, other, positions), attended(subject, one, positions), strict=True):
        assert torch.equal(ours, expected), "the same state_dict gives another output"

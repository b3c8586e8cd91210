"""Checks of numerics: far positions, half precision and rounding, parameters and gradients."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn

from poslab.encodings import PositionalEncoding, Positions, StackEncodings, Tokens
from poslab.testing.subject import (
    LENGTH,
    Float64,
    Subject,
    assert_near,
    attended,
    last_rows,
    some_tokens,
    tensors_of,
    weighted_sum,
)


def check_a_relative_encoding_does_not_feel_a_shift(subject: Subject) -> None:
    """Shift all positions by 1,000, 100,000 or 1,000,000, and allow only the rounding of angles there."""
    if not any(encoding.relative for encoding in subject.stack()):
        return
    for causal in subject.directions:
        encodings = subject.stack(causal)
        for contiguous in (True, False):
            at_0 = attended(subject, encodings, Positions(torch.arange(LENGTH), LENGTH, contiguous), causal)
            for shift in (1_000, 100_000, 1_000_000):
                positions = Positions(torch.arange(LENGTH) + shift, LENGTH + shift, contiguous)
                shifted = attended(subject, encodings, positions, causal)
                for layer, (ours, expected) in enumerate(zip(shifted, at_0, strict=True)):
                    encoding = encodings.layer(layer)
                    if not encoding.relative:
                        continue
                    tolerance = 2e-6 + _rounding_of_angles(encoding, shift)
                    assert_near(ours, expected, tolerance, f"{type(encoding).__name__} after a shift by {shift:,}")


def check_float32_is_float64_but_for_the_rounding_of_angles(subject: Subject) -> None:
    """Compare with float64 up to position 1,000,000 and at wide distances; allow only the rounding of angles there."""
    encodings = subject.stack()
    starts = (0, 1_000, 100_000, 1_000_000 - LENGTH)
    regions = {f"position {start:,}": Positions.range(LENGTH, start) for start in starts}
    regions["distances to 475"] = Positions(torch.arange(LENGTH) * 25, 476)
    for region, positions in regions.items():
        if encodings.max_length is not None and positions.stop > encodings.max_length:
            continue
        outputs = attended(subject, encodings, positions)
        with Float64():
            exact = attended(subject, encodings, positions)
        for layer, (ours, expected) in enumerate(zip(outputs, exact, strict=True)):
            tolerance = 1e-5 + _rounding_of_angles(encodings.layer(layer), positions.stop - LENGTH)
            assert_near(ours, expected, tolerance, f"float32 at {region} against float64")


def check_low_precision_loses_no_position(subject: Subject) -> None:
    """Require float32 tables and states under bfloat16 autocast, and attention near float32 at position 4,096."""
    encodings, attention = subject.stack(), subject.attention
    x = _long_text(subject, encodings)
    exact_tables, exact_states = _tables_and_states(encodings, x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        tables, states = _tables_and_states(encodings, x)
    _assert_same(tables, exact_tables, "tables differ under bfloat16 autocast")
    _assert_same(states, exact_states, "states differ under bfloat16 autocast")
    positions, tokens = Positions.range(x.shape[1]), Tokens(some_tokens(*x.shape[:2]))
    for encoding in encodings:
        if "embed" in encoding.hooks:
            exact = encoding.embed(torch.zeros_like(x), positions, tokens)[0]
            with torch.autocast("cpu", dtype=torch.bfloat16):
                embedded = encoding.embed(torch.zeros_like(x), positions, tokens)[0]
            same = len(embedded.unique(dim=0)) == len(exact.unique(dim=0))
            assert same, "embeddings of two positions become the same"
    for layer in range(len(encodings.windows)):
        with torch.no_grad():
            exact = last_rows(attention, encodings, layer, x)
            with torch.autocast("cpu", dtype=torch.bfloat16):
                low = last_rows(attention, encodings, layer, x)
        # Relative to the largest output: attention over thousands of random keys is small.
        error = ((low - exact).abs().max() / exact.abs().max()).item()
        assert error <= 0.06, f"attention in bfloat16: off by up to {error:.2g} of the largest number, allowed 0.06"


def check_a_model_in_bfloat16_keeps_its_tables_in_float32(subject: Subject) -> None:
    """Require that tables and states of an encoding in bfloat16 equal the ones in float32 with rounded parameters."""
    lowered, rounded = subject.new_stack().to(torch.bfloat16), _rounded(subject.new_stack())
    x = _long_text(subject, rounded)
    tables, states = _tables_and_states(lowered, x.bfloat16())
    exact_tables, exact_states = _tables_and_states(rounded, x.bfloat16().float())
    _assert_same(tables, exact_tables, "tables differ in a bfloat16 model")
    _assert_same(states, exact_states, "states differ in a bfloat16 model")


def check_a_trip_to_bfloat16_rounds_parameters_alone(subject: Subject) -> None:
    """Require that `.to(bfloat16)` and back rounds parameters, but no table or frequency."""
    travelled, rounded = subject.new_stack().to(torch.bfloat16).float(), _rounded(subject.new_stack())
    positions = Positions.range(LENGTH, 0 if travelled.max_length else 2_000)
    ours, expected = attended(subject, travelled, positions), attended(subject, rounded, positions)
    for tensor, other in zip(ours, expected, strict=True):
        assert torch.equal(tensor, other), "a trip to bfloat16 and back changed more than parameters"


def check_the_default_dtype_of_pytorch_changes_nothing(subject: Subject) -> None:
    """Require the same outputs where PyTorch makes numbers in another dtype by default, as in a run in bf16-true."""
    encodings, positions = subject.stack(), Positions.range(LENGTH)
    with torch.no_grad():
        expected = attended(subject, encodings, positions)
        for dtype in (torch.bfloat16, torch.float64):
            before = torch.get_default_dtype()
            torch.set_default_dtype(dtype)
            try:
                outputs = attended(subject, encodings, positions)
            finally:
                torch.set_default_dtype(before)
            for ours, exact in zip(outputs, expected, strict=True):
                mistake = (
                    f"the output changes where PyTorch's default dtype is {dtype}: tensors need dtype=torch.float32"
                )
                assert torch.equal(ours, exact), mistake


def _rounding_of_angles(encoding: PositionalEncoding, position: int) -> float:
    """Return the effect on the output of attention of rounding an angle at a position to float32."""
    if "embed" in encoding.hooks:
        return position * 2.0**-23
    # A logit is a sum over channels, of which only the fast ones have angles as large as positions.
    return position * 2.0**-28 if {"rotate_query", "rotate_key"} & encoding.hooks else 0.0


def _long_text(subject: Subject, encodings: StackEncodings) -> Tensor:
    """Return inputs of 4,096 tokens, (1, S, M), or as many as the encoding allows."""
    length = min(4_096, encodings.max_length or 4_096)
    return torch.randn(1, length, subject.shape().d_model, generator=torch.Generator().manual_seed(5))


def _tables_and_states(encodings: StackEncodings, x: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """Return the tables of a text whose last 8 tokens are queries, and the states of its tokens."""
    length = x.shape[1]
    positions = Positions.range(length)
    tables = [encoding.prepare(Positions.range(8, length - 8), positions) for encoding in encodings]
    states = [encoding.state(x, positions, None) for encoding in encodings]
    return list(tensors_of(tables)), list(tensors_of(states))


def _assert_same(tensors: list[Tensor], expected: list[Tensor], message: str) -> None:
    """Raise AssertionError unless all tensors have the same bits and dtype."""
    for ours, exact in zip(tensors, expected, strict=True):
        assert ours.dtype == exact.dtype and torch.equal(ours, exact), message


def _rounded(encodings: StackEncodings) -> StackEncodings:
    """Round the parameters to numbers that bfloat16 represents, in place, and return the encodings."""
    with torch.no_grad():
        for parameter in encodings.parameters():
            parameter.copy_(parameter.bfloat16())
    return encodings


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

    At a kink of an encoding, such as a ReLU's, the two differ: they must agree at one of two points.
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
    """Require a state dict of only parameters that restores the encoding: tables are made again from them."""
    encodings = subject.stack()
    assert set(encodings.state_dict()) == {name for name, _ in encodings.named_parameters()}, "state_dict has tables"
    torch.default_generator.manual_seed(9)
    other = StackEncodings(subject.factory, encodings.shape, subject.temperature).eval()
    other.load_state_dict(copy.deepcopy(encodings.state_dict()))
    positions = Positions.range(LENGTH)
    for ours, expected in zip(
        attended(subject, other, positions), attended(subject, encodings, positions), strict=True
    ):
        assert torch.equal(ours, expected), "the same state_dict gives another output"

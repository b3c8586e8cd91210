"""Claims on numbers: far positions, half precision and rounding change no more than they must."""

from __future__ import annotations

import torch
from torch import Tensor

from poslab.encodings import PositionalEncoding, Positions, StackEncodings, Tokens
from poslab.testing.float64 import Float64
from poslab.testing.outputs import assert_near, attended, last_rows, tensors_of
from poslab.testing.subject import LENGTH, Subject, some_tokens


def check_a_relative_encoding_does_not_feel_a_shift(subject: Subject) -> None:
    """Of all positions by 1,000, 100,000 or 1,000,000, beyond what float32 can tell of an angle there."""
    encodings = subject.stack()
    if not any(encoding.relative for encoding in encodings):
        return
    for causal in subject.directions:
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
    """To position 1,000,000 and far apart: what float32 cannot tell of an angle there, and nothing more, is lost."""
    encodings = subject.stack()
    places = {
        f"position {start:,}": Positions.range(LENGTH, start) for start in (0, 1_000, 100_000, 1_000_000 - LENGTH)
    }
    places["distances to 475"] = Positions(torch.arange(LENGTH) * 25, 476)
    for place, positions in places.items():
        if encodings.max_length is not None and positions.stop > encodings.max_length:
            continue
        outputs = attended(subject, encodings, positions)
        with Float64():
            exact = attended(subject, encodings, positions)
        for layer, (ours, expected) in enumerate(zip(outputs, exact, strict=True)):
            tolerance = 1e-5 + _rounding_of_angles(encodings.layer(layer), positions.stop - LENGTH)
            assert_near(ours, expected, tolerance, f"float32 at {place} against float64")


def check_low_precision_loses_no_position(subject: Subject) -> None:
    """Under bfloat16 autocast tables and states are those without, and attention at position 4,096 is near float32."""
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
            assert len(embedded.unique(dim=0)) == len(exact.unique(dim=0)), (
                "embeddings of two positions become the same"
            )
    for layer in range(len(encodings.windows)):
        with torch.no_grad():
            exact = last_rows(attention, encodings, layer, x)
            with torch.autocast("cpu", dtype=torch.bfloat16):
                low = last_rows(attention, encodings, layer, x)
        # Of the largest: what attention makes of thousands of random keys is small.
        error = ((low - exact).abs().max() / exact.abs().max()).item()
        assert error <= 0.06, f"attention in bfloat16: off by up to {error:.2g} of the largest number, allowed 0.06"


def check_a_model_in_bfloat16_keeps_its_tables_in_float32(subject: Subject) -> None:
    """Tables and states of an encoding in bfloat16 are those of the same in float32, but for rounded parameters."""
    lowered, rounded = subject.stack().to(torch.bfloat16), _rounded(subject.stack())
    x = _long_text(subject, rounded)
    tables, states = _tables_and_states(lowered, x.bfloat16())
    exact_tables, exact_states = _tables_and_states(rounded, x.bfloat16().float())
    _assert_same(tables, exact_tables, "tables differ in a bfloat16 model")
    _assert_same(states, exact_states, "states differ in a bfloat16 model")


def check_a_trip_to_bfloat16_rounds_parameters_alone(subject: Subject) -> None:
    """`.to(bfloat16)` and back is the same encoding with rounded parameters; no table or frequency has been rounded."""
    travelled, rounded = subject.stack().to(torch.bfloat16).float(), _rounded(subject.stack())
    positions = Positions.range(LENGTH, 0 if travelled.max_length else 2_000)
    for ours, expected in zip(
        attended(subject, travelled, positions), attended(subject, rounded, positions), strict=True
    ):
        assert torch.equal(ours, expected), "a trip to bfloat16 and back changed more than parameters"


def _rounding_of_angles(encoding: PositionalEncoding, position: int) -> float:
    """What float32 cannot tell of an angle at a position, as the output of attention feels it."""
    if "embed" in encoding.hooks:
        return position * 2.0**-23
    # A logit is a sum over channels, of which only the fast ones have angles as large as positions.
    return position * 2.0**-28 if {"rotate_query", "rotate_key"} & encoding.hooks else 0.0


def _long_text(subject: Subject, encodings: StackEncodings) -> Tensor:
    """Inputs of 4,096 tokens, (1, S, M), or as many as the encoding takes."""
    length = min(4_096, encodings.max_length or 4_096)
    return torch.randn(1, length, subject.shape().d_model, generator=torch.Generator().manual_seed(5))


def _tables_and_states(encodings: StackEncodings, x: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """What a stack makes of the positions of a text whose last 8 tokens ask, and what it remembers of its tokens."""
    length = x.shape[1]
    positions = Positions.range(length)
    tables = encodings.prepare(Positions.range(8, length - 8), positions)
    states = [encoding.state(x, positions, None) for encoding in encodings]
    return list(tensors_of(tables)), list(tensors_of(states))


def _assert_same(tensors: list[Tensor], expected: list[Tensor], what: str) -> None:
    """Bit for bit, and in dtype."""
    for ours, exact in zip(tensors, expected, strict=True):
        assert ours.dtype == exact.dtype and torch.equal(ours, exact), what


def _rounded(encodings: StackEncodings) -> StackEncodings:
    """With parameters that bfloat16 holds."""
    with torch.no_grad():
        for parameter in encodings.parameters():
            parameter.copy_(parameter.bfloat16())
    return encodings

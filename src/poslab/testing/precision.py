"""Claims on numbers: far positions, half precision and rounding change no more than they must."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

from poslab.encodings import Positions
from poslab.testing.outputs import assert_near, attended, last_rows, tensors_of
from poslab.testing.subject import LENGTH, Subject


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
                    turns = {"rotate_query", "rotate_key"} & encoding.hooks
                    tolerance = 2e-6 + (4 * shift * 2.0**-24 if turns else 0)
                    assert_near(ours, expected, tolerance, f"{type(encoding).__name__} after a shift by {shift:,}")


def check_float32_is_float64_but_for_the_rounding_of_angles(subject: Subject) -> None:
    """At positions up to 1,000,000: what float32 cannot tell of an angle there, and nothing more, is lost."""
    encodings = subject.stack()
    for start in (0, 1_000, 100_000, 1_000_000 - LENGTH):
        if encodings.max_length is not None and start + LENGTH > encodings.max_length:
            continue
        positions = Positions.range(LENGTH, start)
        outputs = attended(subject, encodings, positions)
        with _Float64():
            exact = attended(subject, encodings, positions)
        for layer, (ours, expected) in enumerate(zip(outputs, exact, strict=True)):
            angular = {"embed", "rotate_query", "rotate_key"} & encodings.layer(layer).hooks
            tolerance = 1e-5 + (4 * start * 2.0**-24 if angular else 0)
            assert_near(ours, expected, tolerance, f"float32 at position {start:,} against float64")


def check_low_precision_loses_no_position(subject: Subject) -> None:
    """Tables under bfloat16 autocast are those without; attention in bfloat16 at position 4,096 is near float32."""
    encodings, attention = subject.stack(), subject.attention
    length = min(4_096, encodings.max_length or 4_096)
    positions, queries = Positions.range(length), Positions.range(8, length - 8)
    exact_tables = encodings.prepare(queries, positions)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        tables = encodings.prepare(queries, positions)
    for ours, expected in zip(tensors_of(tables), tensors_of(exact_tables), strict=True):
        assert ours.dtype == expected.dtype and torch.equal(ours, expected), "tables differ under bfloat16 autocast"
    x = torch.randn(1, length, subject.shape().d_model, generator=torch.Generator().manual_seed(5))
    if "embed" in encodings.layer(0).hooks:
        exact = encodings.embed(torch.zeros_like(x), positions)[0]
        with torch.autocast("cpu", dtype=torch.bfloat16):
            embedded = encodings.embed(torch.zeros_like(x), positions)[0]
        assert len(embedded.unique(dim=0)) == len(exact.unique(dim=0)), "embeddings of two positions become the same"
    with torch.no_grad():
        exact = last_rows(attention, encodings, x)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            low = last_rows(attention, encodings, x)
    assert_near(low.float(), exact, 0.05, "attention in bfloat16")


def check_a_trip_to_bfloat16_rounds_parameters_alone(subject: Subject) -> None:
    """`.to(bfloat16)` and back is the same encoding with rounded parameters; no table or frequency has been rounded."""
    travelled, rounded = subject.stack(), subject.stack()
    travelled.to(torch.bfloat16).float()
    with torch.no_grad():
        for parameter in rounded.parameters():
            parameter.copy_(parameter.bfloat16().float())
    positions = Positions.range(LENGTH, 0 if travelled.max_length else 2_000)
    for ours, expected in zip(
        attended(subject, travelled, positions), attended(subject, rounded, positions), strict=True
    ):
        assert torch.equal(ours, expected), "a trip to bfloat16 and back changed more than parameters"


class _Float64(TorchDispatchMode):
    """Computes all that is asked for in float32 or less in float64."""

    def __torch_dispatch__(
        self, operator: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        args, kwargs = tree_map(_doubled, (args, kwargs or {}))
        return operator(*args, **kwargs)

    def __enter__(self) -> Any:
        self._default_dtype = torch.get_default_dtype()
        torch.set_default_dtype(torch.float64)
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        torch.set_default_dtype(self._default_dtype)


def _doubled(value: Any) -> Any:
    """Float64 in place of a shorter dtype, also that of a tensor."""
    if isinstance(value, Tensor) and value.is_floating_point():
        return value.double()
    return torch.float64 if isinstance(value, torch.dtype) and value.is_floating_point else value

"""Arguments that a signature declares are all that a constructor takes, on the command line and from Python alike."""

from __future__ import annotations

import inspect
import math
import sys
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Annotated, Any

import numpy as np
import pytest
import torch
import yaml
from torch import Tensor

from poslab.arguments import Count, Positive, Range, checked
from poslab.configuration.build import build, target
from poslab.encodings import (
    LayerPattern,
    LayerSpec,
    NoPosition,
    Positions,
    PositionSampler,
    PretrainedFacts,
    PretrainedPositions,
    Rotary,
    SequenceMixer,
    StackShape,
    Temperature,
)
from poslab.encodings.rotary.allocations import axial
from poslab.encodings.sampling.places import PlaceSampler, SequenceSampler
from poslab.generation.token_choice import Sampling
from poslab.models import Decoder, Encoder, Model
from poslab.models.blocks import StackConfig
from poslab.pretrained.hosted import HostedModel
from tests.encoding_choices import CONF
from tests.pretrained.tiny import tiny
from tests.stacked import stacked

ODD: tuple[Any, ...] = (
    math.nan,
    math.inf,
    -math.inf,
    None,
    True,
    "x",
    2**40,
    -(2**40),
    10**30,
    1e30,
    1e-300,
    1e308,
    -1e308,
)
SIZES = {"d_model": 32, "num_layers": 2, "num_heads": 4, "num_kv_heads": 2, "head_dim": 8}
SHAPE = StackShape(**SIZES, digits=(1, 2))
PRETRAINED = StackShape(**SIZES, pretrained=PretrainedFacts(training_length=64))
LENGTH = 6


def targets(node: Any) -> Iterator[str]:
    """Yield what a choice of conf/ names, outermost first."""
    if isinstance(node, Mapping):
        if "_target_" in node:
            yield node["_target_"]
        node = list(node.values())
    for inner in node if isinstance(node, list) else ():
        yield from targets(inner)


NAMED = sorted(
    {
        path
        for group in ("encoding", "model", "positions", "temperature")
        for file in (CONF / group).glob("*.yaml")
        for path in targets(yaml.safe_load(file.read_text()))
    }
)
FACTORIES: dict[str, Callable[..., Any]] = {
    path.rpartition(".")[2]: target(path, path, Any, ("poslab",)) for path in NAMED
} | {kind.__name__: kind for kind in (Sampling, StackConfig, StackShape)}


def is_scaling(factory: Callable[..., Any]) -> bool:
    return "inverse_frequencies" in inspect.signature(factory).parameters


def is_allocation(factory: Callable[..., Any]) -> bool:
    return "pairs" in inspect.signature(factory).parameters


STACK = {"encoding": NoPosition, **SIZES}
RIGHT: dict[str, dict[str, Any]] = {
    **{
        name: {
            "vocab_size": 10,
            "stack": inspect.signature(kind, eval_str=True).parameters["stack"].annotation(**STACK),
        }
        for name, kind in FACTORIES.items()
        if isinstance(kind, type) and issubclass(kind, Model) and kind is not HostedModel
    },
    **{
        name: {"training_length": 64 if is_scaling(factory) else 8}
        for name, factory in FACTORIES.items()
        if "training_length" in inspect.signature(factory).parameters
    },
    "LayerPattern": {"kinds": [NoPosition, Rotary]},
    "alternating": {"encodings": [NoPosition, Rotary]},
    "bipe": {"ends": [1, 2]},
    "StackConfig": STACK,
    "StackShape": SIZES,
}
"""Arguments without a default that are not those of the stack."""


def of_rotary(factory: Callable[..., Any]) -> tuple[str, ...]:
    """The arguments that Rotary gives a scaling or an allocation."""
    if is_scaling(factory):
        return "inverse_frequencies", "base", "length"
    return ("pairs", "axes") if is_allocation(factory) else ()


def right(name: str) -> dict[str, Any]:
    if name == "HostedModel":  # which changes the model that it is given
        return {"encoding": NoPosition, "path": tiny("llama", torch.float32)}
    return RIGHT.get(name, {})


def made(name: str, **arguments: Any) -> Any:
    """Return what a factory makes of its right arguments but for these."""
    factory = partial(FACTORIES[name], **right(name) | arguments)
    if is_scaling(FACTORIES[name]):
        return Rotary(8, scaling=factory)  # who takes a scaling checks it: it is called within a compiled model
    if is_allocation(FACTORIES[name]):
        return Rotary(8, allocation=factory)
    return (PRETRAINED if name == "PretrainedPositions" else SHAPE).fill(factory)


def output(made: Any) -> Iterator[Tensor]:
    """Yield what it computes, in training."""
    tokens = torch.arange(2 * LENGTH).view(2, LENGTH) % 10
    if isinstance(made, Sampling):
        yield made.next_token(torch.linspace(0, 1, 20).view(2, 10)).float()
    elif isinstance(made, PositionSampler):
        of_pictures = isinstance(made, PlaceSampler) and not isinstance(made, SequenceSampler)
        moved = made(Positions.grid(2, 3) if of_pictures else Positions.range(LENGTH), 2)
        yield moved.ids.double()
        yield Rotary(8, allocation=axial).prepare(moved, moved).query_cos
    elif isinstance(made, Temperature):
        yield made(torch.arange(1.0, LENGTH + 1)[None]) * torch.ones(1)
    elif isinstance(made, StackConfig):
        yield from output(Decoder(made, 10))
    elif isinstance(made, SequenceMixer):
        yield from output(StackConfig(encoding=Rotary, **SIZES, layers=LayerPattern([LayerSpec(mixer=lambda: made)])))
    elif isinstance(made, Model):
        yield made(tokens, tokens) if "source" in made.capabilities else made(tokens)
    elif isinstance(made, PretrainedPositions):
        yield HostedModel(PretrainedPositions, right("HostedModel")["path"])(tokens)
    elif not isinstance(made, StackShape):
        kind = Encoder if getattr(made, "bidirectional_only", False) else Decoder
        factory = made if isinstance(made, LayerPattern) else (lambda: made)
        yield from output(stacked(kind, 10, factory, **SIZES, digits=(1, 2)))


@pytest.mark.parametrize(
    ("name", "parameter"),
    [
        (name, parameter)
        for name, factory in FACTORIES.items()
        for parameter, declared in inspect.signature(factory).parameters.items()
        if declared.kind is declared.POSITIONAL_OR_KEYWORD and parameter not in of_rotary(factory)
    ],
)
def test_an_odd_argument_is_refused_or_gives_numbers(name, parameter):
    for value in ODD:
        torch.manual_seed(0)
        try:
            result = made(name, **{parameter: value})
        except ValueError as error:
            assert "\n" not in str(error)
            continue
        for numbers in output(result):
            assert numbers.isfinite().all(), (parameter, value)


@pytest.mark.parametrize("name", FACTORIES)
def test_right_arguments_are_taken(name):
    assert all(numbers.isfinite().all() for numbers in output(made(name)))


def test_what_the_command_line_refuses_python_refuses_in_the_same_words():
    for arguments, sentence in (
        ({"base": None}, "base must be a number, got null"),
        ({"base": True}, "base must be a number, got true"),
        ({"base": "big"}, "base must be a number, got 'big'"),
        ({"base": math.nan}, "base must be a number greater than 1, got nan"),
        ({"head_dim": 2**40}, "head_dim must be an integer of at most 2147483647, got 1099511627776"),
    ):
        with pytest.raises(ValueError) as caught:
            Rotary(**{"head_dim": 8} | arguments)
        assert str(caught.value) == sentence


def test_an_encoding_of_a_user_is_checked_without_a_line_of_its_own():
    class Own(NoPosition):
        def __init__(self, num_heads: int, rate: Positive = 0.5, *rest: int, name: str = "own", **more: float) -> None:
            super().__init__()

    class Further(Own):
        def __init__(self, width: Count) -> None:
            super().__init__(4)

    Own(4, 0.1, "not checked", name="mine", more="not checked either")
    Own(num_heads=np.int64(4), rate=np.float32(0.5))
    for wrong in (lambda: Own(4.5), lambda: Own(4, rate=0), lambda: Own(4, name=3), lambda: Further(0)):
        with pytest.raises(ValueError, match=r"^(num_heads|rate|name|width) "):
            wrong()
    assert list(inspect.signature(Own).parameters) == ["num_heads", "rate", "rest", "name", "more"]
    with pytest.raises(TypeError, match="missing a required argument: 'num_heads'"):
        Own()


OWN_STACK = """
from __future__ import annotations

from dataclasses import dataclass

from poslab.arguments import Positive, with_checked_arguments
from poslab.models import Decoder, StackConfig


@with_checked_arguments
@dataclass(frozen=True, kw_only=True)
class OwnStack(StackConfig):
    gain: Positive = 1.0


class OwnDecoder(Decoder):
    def __init__(self, stack: OwnStack, vocab_size: int) -> None:
        super().__init__(stack, vocab_size)
"""


def test_a_stack_of_a_user_has_its_own_fields_and_those_of_its_base_checked(tmp_path, monkeypatch):
    (tmp_path / "stack_of_a_user.py").write_text(OWN_STACK)
    monkeypatch.syspath_prepend(tmp_path)
    node = {"_target_": "stack_of_a_user.OwnDecoder", "d_model": 16, "num_layers": 1, "num_heads": 2}

    def built(**change):
        config = {"model": node | change, "trust": ["stack_of_a_user"]}
        return build(config, "model", Model, vocab_size=10, encoding=NoPosition)

    assert built(gain=0.5).stack.gain == 0.5
    for change in ({"gain": 0}, {"d_model": 0}, {"attention": "flush"}, {"dropout": 1}, {"mlp_ratio": -1}):
        (name,) = change
        with pytest.raises(ValueError, match=rf"^model\.{name} must be "):
            built(**change)
        with pytest.raises(ValueError, match=rf"^{name} must be "):
            sys.modules["stack_of_a_user"].OwnStack(**STACK | change)


def test_an_argument_of_any_type_takes_everything():
    def function(thing: Any) -> Any:
        return thing

    assert [checked(function)(value) for value in (1, "x", None, [2])] == [1, "x", None, [2]]


@pytest.mark.parametrize(
    ("hint", "value", "words"),
    [
        (Annotated[float, Range(above=0)], 0, "a positive number, got 0"),
        (Annotated[float, Range(at_least=0, below=1)], 1.0, r"a number in \[0, 1\), got 1.0"),
        (Annotated[float, Range(above=-1, at_most=1)], -1, r"a number in \(-1, 1\], got -1"),
        (Annotated[int, Range(at_least=3)], 2, "an integer of at least 3, got 2"),
        (Annotated[int, Range(at_most=3)], 4, "an integer of at most 3, got 4"),
        (Annotated[float, Range(above=2)], 2, "a number greater than 2, got 2"),
        (Annotated[int, Range(at_least=3)], 2.5, "an integer, got 2.5"),
        (Annotated[int, Range(at_least=3)], math.nan, "an integer of at least 3, got nan"),
        (Count | None, 0, "a positive integer or null, got 0"),
        (Sequence[Count | None] | None, 5, "a list, each item an integer or null, or null, got 5"),
        (Sequence[Count | None] | None, [0], r"a list, each item a positive integer or null, or null, got \[0\]"),
        (Sequence[Count] | None, 5, "a list, each item an integer or null, got 5"),
        (Sequence[Count], [1, 0], r"a list, each item a positive integer, got \[1, 0\]"),
        (Sequence[str], "word", r"a list, each item text, got 'word'; did you mean '\[word\]'\?"),
        (tuple[int, str], [1, 2], r"a list of 2 items, an integer, text, got \[1, 2\]"),
        (tuple[float, float], [1], r"a list of 2 items, each a number, got \[1\]"),
        (typing.List, 5, "a list, got 5"),  # noqa: UP006
        (tuple, 5, "a list, got 5"),
    ],
)
def test_a_number_out_of_its_range_is_refused_with_the_range_and_another_thing_with_its_type(hint, value, words):
    def function(number): ...

    function.__annotations__ = {"number": hint}
    with pytest.raises(ValueError, match=f"^number must be {words}$"):
        checked(function)(value)


@pytest.mark.parametrize(
    ("hint", "value"),
    [
        (Any, 3),
        (dict[str, Any], {"color": "red"}),
        (list[Any] | None, ["red", 3]),
        (tuple[int, str], [1, "red"]),
        (tuple[int, ...], [1, 2, 3]),
        (tuple, [1, "red"]),
        (list, (1, "red")),
        (typing.List, [1]),  # noqa: UP006
        (typing.Tuple, [1, "red"]),  # noqa: UP006
        (typing.Sequence, [1]),
        (typing.Dict, {"color": "red"}),  # noqa: UP006
    ],
)
def test_what_the_annotations_of_other_packages_allow_is_taken(hint, value):
    def function(number): ...

    function.__annotations__ = {"number": hint}
    checked(function)(value)

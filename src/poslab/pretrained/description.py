"""Encodings of a stack as plain data, from which they are made again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from inspect import Parameter, signature
from typing import Any

import torch

from poslab.configuration.build import build
from poslab.encodings import LayerPattern, LayerSpec, PositionalEncoding, StackEncodings, StackShape, TemperatureFactory
from poslab.encodings.layers import encoding_of
from poslab.encodings.shape import PretrainedFacts

Encoding = Callable[..., PositionalEncoding]

MAX_NUMBERS = 2**28
"""Most numbers of the encodings that a description makes, 1 GiB in float32: 65,536 learned rows of width 4,096."""

OF_PATTERN = ("order", "from_last", "first", "last")
"""Arguments of a pattern that a description has where they are not the defaults."""

OF_KIND = ("window", "chunk", "temperature", "sinks")
"""Arguments of a kind of layers that a description has where they are not the defaults."""

OURS = "poslab."
"""Beginning of the modules whose classes a description may name."""


def describe(encodings: StackEncodings) -> dict[str, Any]:
    """Return the encodings and the temperature of a stack as plain data.

    Each of `kinds` has the index of its encoding in `encodings`, since layers with one factory share parameters. Facts
    that an encoding takes of a pretrained model are written out.

    Raises:
        ValueError: for an encoding that is not of Poslab, an argument that is not plain data, or more numbers than are
            read again.
    """
    _check_size(encodings)
    pattern, facts, temperature = encodings.pattern, encodings.shape.pretrained, encodings.temperature_factory
    makers = [encoding_of(spec) for spec in pattern.specs]
    distinct = list({id(maker): maker for maker in makers}.values())
    indices = {id(maker): index for index, maker in enumerate(distinct)}
    kinds = [
        {"encoding": indices[id(maker)], **_of_object(spec, OF_KIND)}
        for maker, spec in zip(makers, pattern.specs, strict=True)
    ]
    return {
        "encodings": [_node(factory, facts) for factory in distinct],
        "kinds": kinds,
        "embedding": None if pattern.embedding is None else _node(pattern.embedding, facts),
        "temperature": None if temperature is None else _node(temperature, facts),
        "digits": list(encodings.shape.digits),
        **_of_object(pattern, OF_PATTERN),
    }


def encodings_of(description: Mapping[str, Any], shape: Callable[[list[int]], StackShape]) -> StackEncodings:
    """Return new encodings of a stack by their description, which may be a stranger's.

    Args:
        description: as of `describe`.
        shape: makes the shape of the stack with the ids of digits.

    Raises:
        ValueError: for a description that is damaged, names anything but encodings of Poslab, or wants more memory.
    """
    try:
        makers = [build({"encoding": node}, "encoding", Encoding) for node in description["encodings"]]
        kinds = []
        for kind in description["kinds"]:
            given = {name: kind[name] for name in OF_KIND if name in kind}
            given |= {"temperature": _temperature(given["temperature"])} if "temperature" in given else {}
            kinds.append(LayerSpec(makers[kind["encoding"]], **given))
        embedding = description["embedding"]
        pattern = LayerPattern(
            kinds,
            embedding=None if embedding is None else build({"embedding": embedding}, "embedding", Encoding),
            **{name: description[name] for name in OF_PATTERN if name in description},
        )
        of_stack = (pattern, shape(description["digits"]), _temperature(description["temperature"]))
        with torch.device("meta"):
            _check_size(StackEncodings(*of_stack))
        return StackEncodings(*of_stack)
    except (KeyError, IndexError, TypeError, RuntimeError) as error:  # RuntimeError: sizes beyond any memory
        raise ValueError(f"config.json does not describe an encoding of Poslab: {error!r}") from error


def _temperature(node: Any) -> TemperatureFactory | None:
    return None if node is None else build({"temperature": node}, "temperature", TemperatureFactory)


def _of_object(described: LayerPattern | LayerSpec, names: Sequence[str]) -> dict[str, Any]:
    """Return the named fields as plain data, without those that have their defaults."""
    values = {name: getattr(described, name) for name in names}
    return {name: _value(value, name) for name, value in values.items() if value != getattr(type(described), name)}


def _check_size(encodings: StackEncodings) -> None:
    """Raise ValueError for encodings of more numbers than a description may ask for."""
    numbers = sum(tensor.numel() for tensor in [*encodings.parameters(), *encodings.buffers()])
    if numbers > MAX_NUMBERS:
        raise ValueError(f"encoding must have at most {MAX_NUMBERS:,} numbers in an exported model, got {numbers:,}")


def _node(factory: Callable[..., Any], facts: PretrainedFacts | None) -> dict[str, Any]:
    """Return a class or a function of Poslab, with the arguments that are bound, as a node of a configuration."""
    factory = _flat(factory if facts is None else facts.fill(factory))
    function = factory.func if isinstance(factory, partial) else factory
    given = dict(factory.keywords) if isinstance(factory, partial) else {}
    name = f"{getattr(function, '__module__', '')}.{getattr(function, '__qualname__', function)}"
    if not name.startswith(OURS) or "<" in name or (isinstance(factory, partial) and factory.args):
        raise ValueError(
            f"encoding {name.rpartition('.')[2]} must be a class or a function of Poslab, with arguments by name: what "
            "is exported could not make another"
        )
    # A default where the model under the encoding might have a fact of its own.
    parameters = signature(function).parameters
    taken = {"training_length", *getattr(function, "of_pretrained", ())} & parameters.keys() - given.keys()
    given |= {key: parameters[key].default for key in sorted(taken) if parameters[key].default is not Parameter.empty}
    return {"_target_": name, **{key: _value(value, f"{name}.{key}") for key, value in given.items()}}


def _flat(factory: Callable[..., Any]) -> Callable[..., Any]:
    """Return a partial of a partial as one, which Python leaves nested where one of them is of a subclass."""
    while isinstance(factory, partial) and isinstance(inner := factory.func, partial):
        factory = partial(inner.func, *inner.args, *factory.args, **inner.keywords | factory.keywords)
    return factory


def _value(value: Any, name: str) -> Any:
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Sequence):
        return [_value(item, name) for item in value]
    if callable(value):
        return _node(value, None)
    raise ValueError(f"encoding must have arguments that are plain data to be exported, and {name} is {value!r}")

"""Hugging Face models under an encoding, from Python, and the description of encodings in their configuration."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from inspect import Parameter, signature
from typing import Any

import torch
from omegaconf import OmegaConf

from poslab.arguments import checked, nearest
from poslab.attention import Route
from poslab.configuration.build import build, nearest_encoding
from poslab.configuration.command_line import CONF
from poslab.configuration.labels import without_scratch_default
from poslab.encodings import (
    EncodingFactory,
    LayerPattern,
    LayerSpec,
    PositionalEncoding,
    PretrainedPositions,
    StackEncodings,
    StackShape,
    TemperatureFactory,
)
from poslab.encodings.layers import encoding_of
from poslab.encodings.shape import PretrainedFacts
from poslab.pretrained.directory import configuration, download, library_model, require_transformers
from poslab.pretrained.exchange import Exchange, own_configuration, undo
from poslab.pretrained.families import text_of
from poslab.pretrained.hosted import HostedModel
from poslab.pretrained.proof import family_of

MODULE = "poslab_encodings"  # name of the encodings among the modules of a model of transformers


def borrow(model: Any, encoding: EncodingFactory | str = PretrainedPositions, **options: Any) -> HostedModel:
    """Return a pretrained model under an encoding, in evaluation mode, with the interface of Poslab's own models.

        model = poslab.borrow("path/to/model", encoding=partial(Rotary, scaling=partial(yarn, factor=4.0)))
        logits_BTV = model(torch.tensor([[1, 2, 3]]))

    Args:
        model: folder of the model or its name on the hub, which is then downloaded; or a model of transformers, which
            is then changed in place.
        encoding: encoding class, a partial of one, a `LayerPattern`, or the name of a choice of conf/encoding. What a
            pretrained model knows, such as the base of its rotation or its training length, need not be given.
        options: further arguments of `HostedModel`, and, with a name, hyperparameters of the encoding.

    Raises:
        ValueError: as `HostedModel` does.
    """
    require_transformers("poslab.borrow")
    if isinstance(model, str | os.PathLike):
        model = os.path.expanduser(model)
        download(model)
    if isinstance(encoding, str):
        others = {key: options.pop(key) for key in [*options] if key not in signature(HostedModel).parameters}
        config = configuration(model) if isinstance(model, str) else library_model(model).config
        facts = family_of(config).facts(text_of(config))
        encoding = _named(encoding, others, facts.training_length)
    return HostedModel(encoding, model, **options).eval()


@checked
def exchange(
    model: Any,
    encoding: EncodingFactory | str,
    temperature: TemperatureFactory | None = None,
    attention: Route = "auto",
    digits: Sequence[int] = (),
    **hyperparameters: Any,
) -> Exchange | None:
    """Replace the positional encoding of a transformers model in place; return the exchange, which can be undone.

        poslab.exchange(model, "yarn", factor=4)
        poslab.exchange(model, T5Bias, num_buckets=64)
        model.generate(ids)
        poslab.exchange(model, "pretrained")  # undone

    The model goes on as an object of transformers: forward passes, `generate()`, gradients. Learned parameters of the
    encoding are its module `poslab_encodings`.

    Args:
        model: model of transformers, with or without a head, compiled or not.
        encoding: as in `borrow`, or the name of a choice of conf/encoding, which has the hyperparameters of its file;
            "pretrained" undoes an earlier exchange. Another encoding replaces an earlier one.
        temperature, attention, digits: as in `HostedModel`.
        hyperparameters: of the encoding, by name, or of the scaling of the choice.

    Raises:
        ValueError: in one sentence, for a model or an encoding that is not supported.
    """
    require_transformers("poslab.exchange")
    model = library_model(model)
    if isinstance(encoding, PositionalEncoding):
        name = type(encoding).__name__
        raise ValueError(f"encoding must be a class or a partial of one, as in partial({name}, ...), got an instance")
    family = family_of(model.config)
    base = family.base_of(model)
    if encoding == "pretrained" and not hyperparameters:
        undo(base)
        return None
    if isinstance(encoding, str):
        encoding = _named(encoding, hyperparameters, family.facts(base.config).training_length)
    elif hyperparameters:
        if isinstance(encoding, LayerPattern):
            raise ValueError(
                f"{next(iter(hyperparameters))} must be given to the encodings of a LayerPattern, not to it"
            )
        encoding = partial(encoding, **hyperparameters)
    on_layers = family.on_layers(base.config, encoding)
    encodings = StackEncodings(on_layers, family.shape(base.config, digits), temperature)
    own_configuration(model)
    return ExchangeInPlace(model, family, encodings.train(model.training), attention)


def _named(name: str, hyperparameters: Mapping[str, Any], length: int) -> EncodingFactory:
    """Return the factory of a choice of conf/encoding, for a training length, with other values of its keys.

    ValueError for a choice that is not there, or a key that neither it nor its scaling has.
    """
    from hydra import compose, initialize_config_dir
    from hydra.utils import get_object

    if name == "own":
        raise ValueError("encoding 'own' is now 'pretrained'")
    choices = sorted(file.stem for file in (CONF / "encoding").glob("*.yaml"))
    if name not in choices:
        raise ValueError(f"unknown encoding {name!r}{nearest_encoding(name, choices)}")
    with initialize_config_dir(str(CONF), version_base="1.3"):
        composed = compose(overrides=[f"+dataset.sequence_length={length}", f"+encoding={name}"]).encoding
    unresolved: Any = OmegaConf.to_container(composed, resolve=False)
    node = without_scratch_default(OmegaConf.to_container(composed, resolve=True), unresolved)
    special = {"_target_", "_partial_"}
    of_encoding = {*unresolved, *inspect.signature(get_object(unresolved["_target_"])).parameters} - special
    of_scaling = {*(unresolved.get("scaling") or {})} - of_encoding - special
    for key, value in hyperparameters.items():
        if key not in (keys := of_encoding | of_scaling):
            raise ValueError(f"encoding {name!r} has no argument {key!r}{nearest(key, sorted(keys))}")
        (node if key in of_encoding else node["scaling"])[key] = value
    return build({"encoding": node}, "encoding", EncodingFactory)


class ExchangeInPlace(Exchange):
    """Exchange whose encodings are a module of the model itself."""

    def __init__(self, model: Any, *arguments: Any) -> None:
        super().__init__(model, *arguments)
        model.add_module(MODULE, self.encodings)

    def undo(self) -> None:
        if self.is_current:
            super().undo()
            delattr(self.model, MODULE)


Encoding = Callable[..., PositionalEncoding]

MAX_NUMBERS = 2**28
"""Most numbers of the encodings that a description makes, 1 GiB in float32: 65,536 learned rows of width 4,096."""

OF_PATTERN = ("order", "from_last", "first", "last")
"""Arguments of a pattern that a description has where they are not the defaults."""

OF_KIND = ("window", "chunk", "temperature", "sinks")
"""Arguments of a kind of layers that a description has where they are not the defaults."""

OURS = "poslab."  # beginning of the modules whose classes a description may name


def describe(encodings: StackEncodings) -> dict[str, Any]:
    """Return the encodings and the temperature of a stack as plain data.

    Each of `kinds` has the index of its encoding in `encodings`, since layers with one factory share parameters. Facts
    that an encoding takes of a pretrained model are written out. ValueError for an encoding that is not of Poslab, an
    argument that is not plain data, or more numbers than are read again.
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
    """Return new encodings of a stack by their description, which may be untrusted.

    ValueError for a description that is damaged, names anything but encodings of Poslab, or wants more memory.

    Args:
        description: as of `describe`.
        shape: makes the shape of the stack with the ids of digits.
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
    # A default where the model under the encoding might have its own fact.
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

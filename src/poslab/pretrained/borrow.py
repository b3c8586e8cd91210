"""Hugging Face models under an encoding, from Python."""

from __future__ import annotations

import inspect
import os
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from poslab.arguments import checked, nearest
from poslab.attention import Route
from poslab.configuration.build import build, nearest_encoding
from poslab.configuration.folders import CONF
from poslab.configuration.labels import without_scratch_default
from poslab.encodings import (
    EncodingFactory,
    LayerPattern,
    PositionalEncoding,
    PretrainedPositions,
    StackEncodings,
    TemperatureFactory,
)
from poslab.pretrained.directory import download, library_model, require_transformers
from poslab.pretrained.exchange import Exchange, undo
from poslab.pretrained.families import family_of
from poslab.pretrained.hosted import HostedModel

MODULE = "poslab_encodings"
"""Name of the encodings among the modules of a model of transformers."""


def borrow(model: Any, encoding: EncodingFactory = PretrainedPositions, **options: Any) -> HostedModel:
    """Return a pretrained model under an encoding, in evaluation mode, with the interface of Poslab's own models.

        model = poslab.borrow("path/to/model", encoding=partial(Rotary, scaling=partial(yarn, factor=4.0)))
        logits_BTV = model(torch.tensor([[1, 2, 3]]))

    Args:
        model: folder of the model or its name on the hub, which is then downloaded; or a model of transformers, which
            is then exchanged in place.
        encoding: encoding class, a partial of one, or a `LayerPattern`. What a pretrained model knows, such as the base
            of its rotation or the length that it was trained on, need not be given.
        options: further arguments of `HostedModel`.

    Raises:
        ValueError: as `HostedModel` does.
    """
    require_transformers("poslab.borrow")
    if isinstance(model, str | os.PathLike):
        model = os.path.expanduser(model)
        download(model)
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
    """Exchange the positions of a transformers model in place; return the exchange, which can be undone.

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
        ValueError: in one sentence, for a model or an encoding that cannot be exchanged.
    """
    require_transformers("poslab.exchange")
    model = library_model(model)
    if isinstance(encoding, PositionalEncoding):
        name = type(encoding).__name__
        raise ValueError(f"encoding must be a class or a partial of one, as in partial({name}, ...), got an instance")
    family = family_of(model.config)
    if encoding == "pretrained" and not hyperparameters:
        undo(family.base_of(model))
        return None
    if isinstance(encoding, str):
        encoding = _named(encoding, hyperparameters, family.facts(model.config).training_length)
    elif hyperparameters:
        if isinstance(encoding, LayerPattern):
            raise ValueError(
                f"{next(iter(hyperparameters))} must be given to the encodings of a LayerPattern, not to it"
            )
        encoding = partial(encoding, **hyperparameters)
    encodings = StackEncodings(encoding, family.shape(model.config, digits), temperature)
    return ExchangeInPlace(model, family, encodings.train(model.training), attention)


def _named(name: str, hyperparameters: Mapping[str, Any], length: int) -> EncodingFactory:
    """Return the factory of a choice of conf/encoding, for a training length, with other values of its keys.

    Raises:
        ValueError: for a choice that is not there, or a key that neither it nor its scaling has.
    """
    from hydra import compose, initialize_config_dir
    from hydra.utils import get_object
    from omegaconf import OmegaConf

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
    factory: EncodingFactory = build({"encoding": node}, "encoding", EncodingFactory)
    return factory


class ExchangeInPlace(Exchange):
    """Exchange whose encodings are a module of the model itself."""

    def __init__(self, model: Any, *arguments: Any) -> None:
        super().__init__(model, *arguments)
        model.add_module(MODULE, self.encodings)

    def undo(self) -> None:
        if self.is_current:
            super().undo()
            delattr(self.model, MODULE)

"""Hugging Face models under an encoding, from Python."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, Literal

from poslab.arguments import checked
from poslab.attention import Route
from poslab.encodings import EncodingFactory, OwnPositions, PositionalEncoding, StackEncodings, TemperatureFactory
from poslab.pretrained.directory import download
from poslab.pretrained.exchange import Exchange, undo
from poslab.pretrained.families import family_of
from poslab.pretrained.hosted import HostedModel
from poslab.pretrained.library import library_model, require_transformers

MODULE = "poslab_encodings"
"""Name of the encodings among the modules of a model of transformers."""


def borrow(model: Any, encoding: EncodingFactory = OwnPositions, **options: Any) -> HostedModel:
    """Return a pretrained model under an encoding, in evaluation mode, with the interface of Poslab's own models.

        model = poslab.borrow("path/to/model", encoding=partial(Rotary, scaling=partial(yarn, factor=4.0)))
        logits_BTV = model(torch.tensor([[1, 2, 3]]))

    Args:
        model: folder of the model or its name on the hub, which is then downloaded; or a model of transformers, which
            is then exchanged in place.
        encoding: encoding class, a partial of one, or a `PerLayer`. What a pretrained model knows, such as the base of
            its rotation or the length that it was trained on, need not be given.
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
    encoding: EncodingFactory | Literal["own"],
    temperature: TemperatureFactory | None = None,
    attention: Route = "auto",
    digits: Sequence[int] = (),
) -> Exchange | None:
    """Exchange the positions of a transformers model in place; return the exchange, which can be undone.

        poslab.exchange(model, T5Bias)
        model.generate(ids)
        poslab.exchange(model, "own")  # undone

    The model goes on as an object of transformers: forward passes, `generate()`, gradients. Learned parameters of the
    encoding are its module `poslab_encodings`.

    Args:
        model: model of transformers, with or without a head, compiled or not.
        encoding: as in `borrow`; "own" undoes an earlier exchange. Another encoding takes the place of an earlier one.
        temperature, attention, digits: as in `HostedModel`.

    Raises:
        ValueError: in one sentence, for a model or an encoding that cannot be exchanged.
    """
    require_transformers("poslab.exchange")
    model = library_model(model)
    if isinstance(encoding, PositionalEncoding):
        name = type(encoding).__name__
        raise ValueError(f"encoding must be a class or a partial of one, as in partial({name}, ...), got an instance")
    family = family_of(model.config)
    if encoding == "own":
        undo(family.base_of(model))
        return None
    encodings = StackEncodings(encoding, family.shape(model.config, digits), temperature)
    return ExchangeInPlace(model, family, encodings.train(model.training), attention)


class ExchangeInPlace(Exchange):
    """Exchange whose encodings are a module of the model itself."""

    def __init__(self, model: Any, *arguments: Any) -> None:
        super().__init__(model, *arguments)
        model.add_module(MODULE, self.encodings)

    def undo(self) -> None:
        if self.is_current:
            super().undo()
            delattr(self.model, MODULE)

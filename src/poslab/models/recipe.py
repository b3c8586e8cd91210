"""A model that is known but for its data."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from poslab.encodings import EncodingFactory, PositionSampler, TemperatureFactory
from poslab.models.model import Model, Outputs


@dataclass(frozen=True)
class ModelRecipe:
    """A model that can be built as soon as its vocabulary is known.

    Args:
        make: builds it from `vocab_size`, and from `outputs` and `digits` where it takes them.
        encoding: its positional encoding.
        positions: draws positions for its tokens; None does not.
        temperature: scales its logits; None does not.
    """

    make: partial[Model]
    encoding: EncodingFactory
    positions: PositionSampler | None = None
    temperature: TemperatureFactory | None = None

    @property
    def kind(self) -> type[Model]:
        """The class of the model."""
        kind = self.make.func
        assert isinstance(kind, type)
        return kind

    def try_build(self) -> Model:
        """Return the model without memory for its weights, of a vocabulary that stands for any; raises as `build`."""
        with torch.device("meta"):
            return self.build(vocab_size=2, digits=[0])

    def build(self, vocab_size: int, outputs: Outputs | None = None, digits: Sequence[int] = ()) -> Model:
        """Build the model, with weights drawn from torch's generator.

        Args:
            vocab_size: tokens of its data and its task.
            outputs: what its task reads; None is token logits.
            digits: which of the tokens are one digit each.

        Raises:
            ValueError: for what does not fit together, beginning with the name of the argument.
        """
        known: dict[str, Any] = {"vocab_size": vocab_size, "outputs": outputs, "digits": digits}
        parameters = inspect.signature(self.kind).parameters
        return self.make(**{name: value for name, value in known.items() if name in parameters})

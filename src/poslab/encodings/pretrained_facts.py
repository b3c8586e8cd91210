"""Facts of a pretrained model that encodings take unless they are given others."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

from torch import Tensor

T = TypeVar("T")


@dataclass(frozen=True)
class PretrainedFacts:
    """Facts of a pretrained model.

    Args:
        training_length: tokens of the longest text that it was trained on, from which scalings stretch.
        max_length: number of its learned position rows; None if it has none.
        base, fraction, factor_on: of its own rotation, as in `Rotary`; None if it has none.
        spectrum: returns the inverse frequencies of that rotation, scaled as the model's own, at a length of the text.
    """

    training_length: int
    max_length: int | None = None
    base: float | None = None
    fraction: float | None = None
    factor_on: str | None = None
    spectrum: Callable[[int], Tensor] | None = field(default=None, compare=False)

    def fill(self, factory: Callable[..., T]) -> Callable[..., T]:
        """Return a factory with the facts bound that it was not given, in the factories bound in it too.

        The class of an encoding names those that it takes (`of_pretrained`); every scaling takes `training_length`.
        """
        function: Callable[..., T] = factory.func if isinstance(factory, partial) else factory
        given: dict[str, Any] = factory.keywords if isinstance(factory, partial) else {}
        takes = {"training_length", *getattr(function, "of_pretrained", ())}
        takes &= inspect.signature(function).parameters.keys() - given.keys()
        facts = {name: getattr(self, name) for name in takes}
        bound = {name: fact for name, fact in facts.items() if fact is not None}
        bound |= {name: self.fill(inner) for name, inner in given.items() if callable(inner)}
        return partial(factory, **bound) if bound else factory

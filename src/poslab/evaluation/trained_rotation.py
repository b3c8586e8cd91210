"""Rotation of training, beside that of encodings which continue it in the same model."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

from poslab.encodings import EncodingFactory, PerLayer, StackEncodings


def rotation_mismatch(trained: EncodingFactory, swapped: StackEncodings) -> dict[str, Any]:
    """Return the hyperparameters of training from which a layer of a swap differs, though it continues its rotation.

    Args:
        trained: the encoding of the training, or the pattern.
        swapped: the encodings that take its place.

    Returns:
        The values of training by name, of the last layer that differs; a scaling is the pair of its function and its
        arguments.
    """
    pattern, layers = PerLayer.of(trained), swapped.shape.num_layers
    differing: dict[str, Any] = {}
    for layer in range(layers):
        own, new = (_arguments(one.encodings[one.kind(layer, layers)]) for one in (pattern, swapped.pattern))
        names = [name for name in swapped.layer(layer).of_trained if name in own]
        differing |= {name: own[name] for name in names if own[name] != new[name]}
    return differing


def _arguments(factory: Callable[..., Any]) -> dict[str, Any]:
    """Return the arguments of a factory that are bound or have defaults, in a form that can be compared."""
    given = {name: parameter.default for name, parameter in inspect.signature(factory).parameters.items()}
    return {
        name: (value.func, _arguments(value)) if isinstance(value, partial) else value
        for name, value in given.items()
        if value is not inspect.Parameter.empty
    }

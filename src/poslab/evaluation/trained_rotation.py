"""Rotation of training, beside that of encodings which continue it in the same model."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

from poslab.encodings import LayerPattern, StackEncodings
from poslab.encodings.layers import encoding_of


def rotation_mismatch(trained: LayerPattern, swapped: StackEncodings) -> dict[str, Any]:
    """Return the hyperparameters of training from which a layer of a swap differs, though it continues its rotation.

    Args:
        trained: kinds of layers in training.
        swapped: the encodings that take its place.

    Returns:
        The values of training by name, of the last layer that differs; a scaling is the pair of its function and its
        arguments.
    """
    differing: dict[str, Any] = {}
    of_layers = zip(trained.of_layers(swapped.shape.num_layers), swapped.specs, strict=True)
    for layer, specs in enumerate(of_layers):
        before, now = (_arguments(encoding_of(spec)) for spec in specs)
        names = [name for name in swapped.layer(layer).of_trained if name in before]
        differing |= {name: before[name] for name in names if before[name] != now[name]}
    return differing


def _arguments(factory: Callable[..., Any]) -> dict[str, Any]:
    """Return the arguments of a factory that are bound or have defaults, in a form that can be compared."""
    given = {name: parameter.default for name, parameter in inspect.signature(factory).parameters.items()}
    return {
        name: (value.func, _arguments(value)) if isinstance(value, partial) else value
        for name, value in given.items()
        if value is not inspect.Parameter.empty
    }

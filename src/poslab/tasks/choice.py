"""Find the task of a model on a kind of data."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator
from functools import cache

import poslab.tasks
from poslab.data.kinds.kind import Kind
from poslab.models import Decoder, Encoder, EncoderDecoder, Model, PointerGenerator
from poslab.tasks.task import Task

KNOWN_MODELS = (Decoder, Encoder, EncoderDecoder, PointerGenerator)
"""The models that a message names, in the words of conf/model."""


def task_for(kind: Kind, model: type[Model]) -> type[Task]:
    """Return the task of a class of models on a kind of data.

    Raises:
        ValueError: beginning with `model`, if there is none.
    """
    task = _found(kind, model.capabilities)
    if task is None:
        choices = " or ".join(snake(known.__name__) for known in KNOWN_MODELS if _found(kind, known.capabilities))
        raise ValueError(f"model must be {choices} for {kind.name} data, got {snake(model.__name__)}")
    return task


def _found(kind: Kind, capabilities: frozenset[str]) -> type[Task] | None:
    return next((task for task in tasks() if task.kind is kind and task.needs <= capabilities), None)


@cache
def tasks() -> tuple[type[Task], ...]:
    """Return all tasks of this folder that declare a kind."""
    for module in pkgutil.iter_modules(poslab.tasks.__path__):
        importlib.import_module(f"poslab.tasks.{module.name}")
    found = _subclasses(Task)  # type: ignore[type-abstract]
    return tuple(task for task in found if "kind" in vars(task))


def _subclasses(of: type[Task]) -> Iterator[type[Task]]:
    for task in of.__subclasses__():
        yield task
        yield from _subclasses(task)


def snake(name: str) -> str:
    """Return the name of a class as conf/ writes it: `EncoderDecoder` is `encoder_decoder`."""
    return "".join(f"_{c.lower()}" if c.isupper() else c for c in name).lstrip("_")

"""Find the task of a model on a kind of data."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator
from functools import cache
from types import ModuleType
from typing import TypeVar

import poslab.models
import poslab.tasks
from poslab.data.kinds import Kind
from poslab.models import Model
from poslab.tasks.task import Task

T = TypeVar("T")


def task_for(kind: Kind, model: type[Model], capabilities: frozenset[str]) -> type[Task]:
    """Return the task of a model on a kind of data.

    Args:
        kind: of the data.
        model: class of the model, for its name.
        capabilities: of the model.

    Raises:
        ValueError: beginning with `model`, if there is none.
    """
    task = _task_of(kind, capabilities)
    if task is None:
        choices = " or ".join(snake(known.__name__) for known in models() if _task_of(kind, known.capabilities))
        raise ValueError(f"model must be {choices} for {kind.name} data, got {snake(model.__name__)}")
    return task


def _task_of(kind: Kind, capabilities: frozenset[str]) -> type[Task] | None:
    return next((task for task in tasks() if task.kind is kind and task.needs <= capabilities), None)


@cache
def tasks() -> tuple[type[Task], ...]:
    """Return all tasks of this folder that declare a kind."""
    subclasses = _subclasses(poslab.tasks, Task)  # type: ignore[type-abstract]
    return tuple(task for task in subclasses if "kind" in vars(task))


@cache
def models() -> tuple[type[Model], ...]:
    """Return the models of Poslab itself by name, those that declare capabilities."""
    classes = (model for model in _subclasses(poslab.models, Model) if model.__module__.startswith("poslab.models."))
    capable = (model for model in classes if hasattr(model, "capabilities"))
    return tuple(sorted(capable, key=lambda model: model.__name__))


def _subclasses(package: ModuleType, of: type[T]) -> Iterator[type[T]]:
    """Yield the subclasses of a class after an import of all modules of a package."""
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"{package.__name__}.{module.name}")
    yield from _derived(of)


def _derived(of: type[T]) -> Iterator[type[T]]:
    for derived in of.__subclasses__():
        yield derived
        yield from _derived(derived)


def snake(name: str) -> str:
    """Return the name of a class as conf/ writes it: `EncoderDecoder` is `encoder_decoder`."""
    return "".join(f"_{c.lower()}" if c.isupper() else c for c in name).lstrip("_")

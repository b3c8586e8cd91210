"""All parts of an evaluation, one after another, in one report."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module

from poslab.evaluation import parts
from poslab.evaluation.evaluation import Evaluation
from poslab.evaluation.settings import Settings
from poslab.evaluation.subjects import Subject


def evaluate(subjects: Sequence[Subject], settings: Settings, announce: Callable[[str], None] = print) -> Evaluation:
    """Evaluate trained models side by side, under different names and on the same text.

    `announce` is called with the name of each part before it is made.

    Raises:
        ValueError: for lengths that the text does not fill.
    """
    chosen = parts.names() if settings.parts is None else settings.parts
    modules = {part: import_module(f"{parts.__name__}.{part}") for part in chosen}
    evaluation = Evaluation()
    for part in sorted(modules, key=lambda part: (modules[part].PLACE, part)):
        announce(part)
        evaluation.add(modules[part].make(subjects, settings))
    return evaluation

"""The record of a task in a run, beside configuration and tokenizer, read from `task.json`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MOST_EXTRA_TOKENS = 100_000
"""Far above the special tokens of any task."""


@dataclass(frozen=True)
class TaskRecord:
    """The part of a task that the use of a trained model needs.

    Args:
        outputs: size of the output layer, and True if it is pooled: once for a sequence, one number for each class,
            rather than for each token; None means token logits.
        extra_tokens: tokens beside those of the tokenizer, such as a mask.
        classes: names of the classes, all different; empty for other tasks.
        two_texts: True if two texts are classified together.
        several: True if a text may have several classes.
    """

    outputs: tuple[int, bool] | None = None
    extra_tokens: int = 0
    classes: tuple[str, ...] = ()
    two_texts: bool = False
    several: bool = False

    @classmethod
    def of(cls, content: Mapping[str, Any], file: Path) -> TaskRecord:
        """Return the record of a file's content; ValueError names the file and the key."""
        outputs, extra_tokens = content.get("outputs"), content.get("extra_tokens", 0)
        classes, flags = content.get("classes", []), {key: content.get(key, False) for key in ("two_texts", "several")}
        fits = {
            "outputs": outputs is None
            or (isinstance(outputs, list) and [type(x) for x in outputs] == [int, bool] and outputs[0] >= 1),
            "extra_tokens": type(extra_tokens) is int and 0 <= extra_tokens <= MOST_EXTRA_TOKENS,
            "classes": isinstance(classes, list) and all(isinstance(name, str) for name in classes),
            **{name: isinstance(flag, bool) for name, flag in flags.items()},
        }
        if wrong := [key for key, is_right in fits.items() if not is_right]:
            raise ValueError(f"{file} is damaged: {wrong[0]} must not be {str(content[wrong[0]])[:40]!r}")
        is_of_classes = bool(classes) or (outputs is not None and outputs[1])
        if is_of_classes and (outputs is None or outputs[0] != len(classes)):
            raise ValueError(f"{file} is damaged: it has {len(classes)} classes for outputs {outputs}")
        if len(set(classes)) < len(classes):
            raise ValueError(f"{file} is damaged: its classes must all be different")
        return cls(None if outputs is None else (outputs[0], outputs[1]), extra_tokens, tuple(classes), **flags)

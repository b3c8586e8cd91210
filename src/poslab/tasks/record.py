"""What a run keeps of its task beside configuration and tokenizer, read back from `task.json`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MOST_EXTRA_TOKENS = 100_000
"""Far above the special tokens of any task."""


@dataclass(frozen=True)
class TaskRecord:
    """The part of a task that a trained model cannot be used without.

    Args:
        outputs: numbers that the output layer gives, and whether it gives them once for a sequence, one for each class,
            rather than for each token; None means token logits.
        extra_tokens: tokens beside those of the tokenizer, such as one that masks.
        classes: names of the classes, all different; none for other tasks.
        two_texts: whether two texts are classified together.
        several: whether a text may have several classes.
    """

    outputs: tuple[int, bool] | None = None
    extra_tokens: int = 0
    classes: tuple[str, ...] = ()
    two_texts: bool = False
    several: bool = False

    @classmethod
    def of(cls, content: Mapping[str, Any], file: Path) -> TaskRecord:
        """Check the content of a file.

        Raises:
            ValueError: naming the file and the key.
        """
        outputs = content.get("outputs")
        fits = {
            "outputs": outputs is None
            or (isinstance(outputs, list) and [type(x) for x in outputs] == [int, bool] and outputs[0] >= 1),
            "extra_tokens": type(content.get("extra_tokens", 0)) is int
            and 0 <= content.get("extra_tokens", 0) <= MOST_EXTRA_TOKENS,
            "classes": isinstance(content.get("classes", []), list)
            and all(isinstance(name, str) for name in content.get("classes", [])),
            "two_texts": isinstance(content.get("two_texts", False), bool),
            "several": isinstance(content.get("several", False), bool),
        }
        if wrong := [key for key, is_right in fits.items() if not is_right]:
            raise ValueError(f"{file} is damaged: {wrong[0]} must not be {str(content[wrong[0]])[:40]!r}")
        classes = tuple(content.get("classes", []))
        is_of_classes = bool(classes) or (outputs is not None and outputs[1])
        if is_of_classes and (outputs is None or outputs[0] != len(classes)):
            raise ValueError(f"{file} is damaged: it has {len(classes)} classes for outputs {outputs}")
        if len(set(classes)) < len(classes):
            raise ValueError(f"{file} is damaged: its classes must all be different")
        return cls(
            outputs=None if outputs is None else (outputs[0], outputs[1]),
            extra_tokens=content.get("extra_tokens", 0),
            classes=classes,
            two_texts=content.get("two_texts", False),
            several=content.get("several", False),
        )

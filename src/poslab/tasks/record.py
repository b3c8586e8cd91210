"""The record of a task in a run, next to configuration and tokenizer: `task.json`."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any, Self

from poslab.arguments import Range, with_checked_arguments
from poslab.io.files import read_json, write_atomically
from poslab.models import Outputs

MAX_EXTRA_TOKENS = 100_000
"""Far above the special tokens of any task."""


@with_checked_arguments
@dataclass(frozen=True, kw_only=True)
class TaskRecord:
    """The part of a task that the use of a trained model needs.

    Args:
        outputs: output layer of the model; None means token logits.
        extra_tokens: number of tokens in addition to those of the tokenizer, such as a mask.
    """

    outputs: Outputs | None = None
    extra_tokens: Annotated[int, Range(0, MAX_EXTRA_TOKENS)] = 0

    @property
    def patch_width(self) -> int | None:
        """Number of values of a patch; None for data without patches."""
        return None

    @classmethod
    def read(cls, file: Path) -> Self:
        """Return the record in a file, that of no argument if there is no file.

        Raises:
            ValueError: naming the file and what is wrong in it.
        """
        content = read_json(file) if file.is_file() else {}
        known = {argument.name for argument in fields(cls)}
        try:
            if strange := sorted(content.keys() - known):
                raise ValueError(f"{strange[0]!r:.40} is not one of {', '.join(sorted(known))}")
            return cls(**content | {"outputs": _outputs(content.get("outputs"))})
        except ValueError as error:
            raise ValueError(f"{file} is damaged: {error}") from error

    def write(self, file: Path) -> None:
        """Write the record to a file."""
        write_atomically(file, json.dumps(asdict(self), indent=2) + "\n")


@with_checked_arguments
@dataclass(frozen=True, kw_only=True)
class NamedOutputs(TaskRecord):
    """The record of a task each of whose outputs has a name.

    Args:
        classes: the names, all different, in the order of their numbers.
        others: those of `TaskRecord`.
    """

    classes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.outputs is None:
            raise ValueError("it has no outputs, as of another task")
        if len(self.classes) != self.outputs.size:
            raise ValueError(f"classes must be as many as outputs, got {len(self.classes)} for {self.outputs.size}")
        if len(set(self.classes)) < len(self.classes):
            raise ValueError("classes must all be different")


def _outputs(value: Any) -> Outputs | None:
    if value is None:
        return None
    if not (isinstance(value, list) and [type(part) for part in value] == [int, bool] and value[0] >= 1):
        raise ValueError(f"outputs must be a positive integer and true or false, got {value!r:.40}")
    return Outputs(*value)

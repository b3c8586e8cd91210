"""Contract of the ways in which an encoding begins that takes the place of another one."""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

from poslab.arguments import CheckedArguments
from poslab.models import ForwardPass, Model


class Start(CheckedArguments):
    """Base class of the ways in which a new encoding begins, in a model that was trained under earlier positions."""

    needs_earlier: ClassVar[bool] = True
    """True if it reads the model under its earlier positions."""

    batches: int = 0
    """Global batches of training text that the earlier model reads."""

    def check(self, model: Model, earlier: Model) -> None:
        """Check that the encoding can begin so; both models may be without memory for their weights.

        Raises:
            ValueError: in one sentence that begins with `start`.
        """

    def apply(self, model: Model, earlier: Model, readings: Iterable[ForwardPass] = ()) -> list[str]:
        """Set the encodings of a model; return a line for each that says how it begins.

        Args:
            model: the model under its new encoding.
            earlier: the model under its earlier positions, in evaluation mode.
            readings: passes over training text.

        Raises:
            ValueError: as `check` does.
        """
        return []

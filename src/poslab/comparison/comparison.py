"""A comparison: one question, the encodings and cases that answer it, and the metrics that decide."""

from __future__ import annotations

from dataclasses import dataclass

from poslab.arguments import with_checked_arguments
from poslab.comparison.declared import NAME as NAME
from poslab.comparison.declared import Case as Case
from poslab.comparison.declared import Criterion as Criterion
from poslab.comparison.declared import DeclaredComparison
from poslab.comparison.declared import Gate as Gate
from poslab.comparison.declared import Tuning as Tuning
from poslab.comparison.declared import made as made
from poslab.comparison.mistakes import mistakes


@with_checked_arguments
@dataclass(frozen=True)
class Comparison(DeclaredComparison):
    """A comparison in which all keys go together.

    Raises:
        ValueError: for a value that a key cannot have, or the first of its `mistakes`.
    """

    def __post_init__(self) -> None:
        if (mistake := next(mistakes(self), None)) is not None:
            raise ValueError(mistake)

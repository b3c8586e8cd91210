"""What every source of examples has in common."""

from abc import abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar

from poslab.data.bounds import require_integer
from poslab.data.kinds.kind import ExampleKind, Reading
from poslab.data.source import Source

if TYPE_CHECKING:
    from datasets import Dataset


@dataclass(kw_only=True)
class ExampleSource(Source):
    """A source of examples. Subclasses say where they come from and of which kind they are.

    Args:
        sequence_length: the most tokens of an example that is trained on, at least 1 (default 256).
        max_length: the most tokens of an example that validation and test read; None is `sequence_length`. Where it is
            more, they show what a model makes of lengths that it has not seen: longer examples than `sequence_length`
            are kept from training. A text to be classified that is longer than `max_length` is cut, and any other
            example that is longer is left out.
        source_length: of pairs, the most tokens of a source that are read, its end included; what follows is cut, as is
            usual before summarising. None cuts nothing.
        deduplicate: drop examples whose texts are equal to an earlier one's before anything is held out, and let no two
            splits have examples that read the same but for case, white space, punctuation and Unicode form: they stay
            together, or, where documents or published splits part them, the one in training is dropped (default true).
        others: those of `Source`.
    """

    batch_size: int = 32
    tokenizer: str = "bpe"
    validation_fraction: float = 0.1
    test_fraction: float = 0.1
    sequence_length: int = 256
    max_length: int | None = None
    source_length: int | None = None
    deduplicate: bool = True

    kind: ClassVar[ExampleKind]
    """The kind of its examples."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_integer("sequence_length", self.sequence_length, least=1)
        if self.max_length is not None:
            require_integer("max_length", self.max_length, least=self.sequence_length)
        if self.source_length is not None:
            require_integer("source_length", self.source_length, least=2)
            if not self.kind.has_sources:
                raise ValueError("source_length must be null where no target is written of a source")

    @property
    def longest(self) -> int:
        """The most tokens of an example that is read at all."""
        return self.max_length or self.sequence_length

    def reading(self, joined: bool) -> Reading:
        """Return how its examples are read.

        Args:
            joined: whether the texts of a pair are read as one.
        """
        return Reading(joined, self.source_length)

    @cached_property
    @abstractmethod
    def identity(self) -> str:
        """A string that changes whenever the source's examples do."""

    @abstractmethod
    def examples(self) -> "dict[str, Dataset]":
        """The examples by split, with the columns of their kind: `train`, and any held-out split of its own.

        Raises:
            ValueError: one sentence that begins with the argument to change, if they cannot be had.
        """

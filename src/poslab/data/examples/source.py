"""The base class of all sources of examples."""

from abc import abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

from poslab.arguments import NOT_HUGE, Count, Range
from poslab.data.examples.columns import Splits
from poslab.data.kinds.kind import ExampleKind
from poslab.data.source import Share, Source

if TYPE_CHECKING:
    from poslab.data.examples.example_splits import ExampleSplits


class ExampleSource(Source):
    """A source of examples of one kind.

    Args:
        sequence_length: the most tokens of a training example, at least 1 (default 256).
        max_length: the most tokens of an example of validation and test; None is `sequence_length`. Where it is more,
            they measure lengths that training never has: training leaves out examples longer than `sequence_length`. A
            longer text to be classified is cut, and any other longer example is left out.
        source_length: of pairs, the most tokens of a source that are read, its end included; the rest is cut, as is
            usual before summarising. None cuts nothing.
        deduplicate: drop examples whose texts equal those of an earlier one before anything is held out, and let no two
            splits have examples that read the same but for case, white space, punctuation and Unicode form: they stay
            together, or, where documents or published splits part them, the one in training is dropped (default true).
        others: those of `Source`.
    """

    batch_size: Count = 32
    tokenizer: str = "bpe"
    validation_fraction: Share = 0.1
    test_fraction: Share = 0.1
    sequence_length: Count = 256
    max_length: Count | None = None
    source_length: Annotated[int, Range(at_least=2), NOT_HUGE] | None = None
    deduplicate: bool = True

    kind: ClassVar[ExampleKind]

    column_arguments: ClassVar[tuple[str, ...]] = ()
    """The arguments that name columns, of a source that reads a table."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.longest < self.sequence_length:
            raise ValueError(f"max_length must be at least sequence_length={self.sequence_length}, got {self.longest}")
        if self.source_length is not None and not self.kind.has_sources:
            raise ValueError("source_length must be null where no target is written of a source")

    @property
    def longest(self) -> int:
        """The most tokens of an example of any split."""
        return self.max_length or self.sequence_length

    @property
    def columns(self) -> dict[str, str]:
        """The columns that a table must have, by the arguments that name them; a default of None is optional."""
        columns = {argument: getattr(self, argument) for argument in self.column_arguments}
        return {name: column for name, column in columns.items() if (column, getattr(type(self), name)) != (None, None)}

    @property
    def settings(self) -> tuple[object, ...]:
        """Values of other arguments of a subclass that decide which examples come out."""
        return ()

    def prepare(self, joined: bool = False) -> Path:
        from poslab.data.examples.preparation import prepare

        return prepare(self, joined)

    def open(self, joined: bool = False) -> "ExampleSplits":
        from poslab.data.examples.example_splits import ExampleSplits

        return ExampleSplits(self, self.prepare(joined))

    @abstractmethod
    def examples(self) -> Splits:
        """Return the examples by split, with the columns of their kind: `train`, and any held-out split of its own.

        Raises:
            ValueError: one sentence that begins with the argument to change, if they cannot be read.
        """

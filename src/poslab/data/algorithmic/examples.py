"""Algorithmic tasks and their examples: lengths, and the split into training, validation and test."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, NamedTuple, dataclass_transform

import numpy as np

from poslab.arguments import Count, Range, with_checked_arguments
from poslab.data.kinds import BLANKS, SYMBOLS, Kind
from poslab.data.source import Collating, DataSource, DataSplits, HeldOut, Natural
from poslab.data.tokenizers import SymbolTokenizer

if TYPE_CHECKING:
    from poslab.data.batch import Batch, Collate
    from poslab.data.order import BatchPlan

SHARES = {"validation": 0.1, "test": 0.1}  # shares of all inputs that are only for validation and only for test
TRIES = 200  # draws of an example until one belongs to the right split


class AlgorithmicExamples(DataSource):
    """Examples of an algorithmic task, made as they are needed.

    The split of an example is a function only of its input, so that no two splits share one, however many are made.
    Training draws one length for each step, and all its examples of that length; one of more tokens than
    `sequence_length` is drawn again.

    Args:
        task: makes the examples.
        train_lengths: the shortest and the longest training length, as the task counts them.
        sequence_length: at least the tokens of the longest training example.
        test_lengths: lengths of validation and test, each measured by itself.
        test_examples: the most examples of each of these, at least 1 (default 256); a short length may have fewer.
    """

    task: AlgorithmicTask
    train_lengths: Sequence[Count] = (1, 40)
    sequence_length: Natural
    test_lengths: Sequence[Count] = (20, 40, 60, 80, 100)
    test_examples: Count = 256
    batch_size: Count = 32

    def __post_init__(self) -> None:
        if len(self.train_lengths) != 2 or self.train_lengths[0] > self.train_lengths[1]:
            raise ValueError(f"train_lengths must be the shortest and the longest, got {list(self.train_lengths)}")
        if not self.lengths_trained:
            raise ValueError(f"train_lengths={list(self.train_lengths)} has no length that the task has")
        if not self.test_lengths:
            raise ValueError("test_lengths must contain at least one length")
        for length in self.test_lengths:
            if not self.task.has_length(length):
                raise ValueError(f"test_lengths must be lengths that the task has, got {length}")

    def open(self, joined: bool = False) -> AlgorithmicSplits:
        return AlgorithmicSplits(self)

    def check(self) -> None:
        """Raise ValueError if `sequence_length` is less than the tokens of a training example."""
        if (most := self.most_tokens_trained) > self.sequence_length:
            raise ValueError(
                f"sequence_length must be at least {most}, the tokens of examples of length "
                f"{self.lengths_trained[-1]}, got {self.sequence_length}"
            )

    @property
    def kind(self) -> Kind:
        return BLANKS if BLANK in self.task.symbols else SYMBOLS

    @property
    def title(self) -> str:
        """The name of the task."""
        return type(self.task).__name__

    @property
    def lengths_trained(self) -> list[int]:
        """The training lengths that the task has."""
        first, last = self.train_lengths
        return [length for length in range(first, last + 1) if self.task.has_length(length)]

    @property
    def most_tokens_trained(self) -> int:
        """The tokens of the longest training example."""
        return self.task.most_tokens(self.lengths_trained[-1])

    def training_examples(self, step: int, rows: Sequence[int]) -> list[Example]:
        """Make the examples of a training step of these rows of its global batch."""
        # A counter-based generator: each row has its own stretch, and seeking costs less than a new generator.
        stream = np.random.Philox([self.seed, 0 if self.overfit else step])
        generator, start = np.random.Generator(stream), stream.state
        lengths = generator.permutation(self.lengths_trained).tolist()
        examples = []
        for row in rows:
            stream.state = start
            stream.advance((row + 1) << 64)
            examples.append(self._training_example(lengths, generator))
        return examples

    def _training_example(self, lengths: list[int], generator: np.random.Generator) -> Example:
        # A length may have so few examples that none is for training.
        for length in lengths:
            if (example := self._drawn("train", length, generator)) is not None:
                return example
        raise ValueError(f"train_lengths={list(self.train_lengths)} has too few examples for a split of them")

    def held_out_examples(self, split: str, length: int) -> list[Example]:
        """Make the examples of `validation` or `test` at a length, no two with the same input."""
        generator = _generator_of(split, length)
        examples: dict[tuple[str, ...], Example] = {}
        for _ in range(2 * self.test_examples):
            if (example := self._drawn(split, length, generator)) is None:
                break
            examples.setdefault(example.input, example)
            if len(examples) == self.test_examples:
                break
        return list(examples.values())

    def has_held_out_examples(self, split: str, length: int) -> bool:
        """Return whether `validation` or `test` has an example of a length, of which only the first is made."""
        return self._drawn(split, length, _generator_of(split, length)) is not None

    def _drawn(self, split: str, length: int, generator: np.random.Generator) -> Example | None:
        """Draw an example of a split; None where there seems to be none."""
        assert self.task.has_length(length)
        for _ in range(TRIES):
            example = self.task.example(length, generator)
            if split_of(example) == split and (split != "train" or example.num_tokens <= self.sequence_length):
                return example
        return None


def _generator_of(split: str, length: int) -> np.random.Generator:
    """Return the random numbers of the held-out examples of a length, the same for all runs."""
    return np.random.default_rng([list(SHARES).index(split), length])


def split_of(example: Example) -> str:
    """Return the split of an example, only by its input."""
    digest = hashlib.blake2b("\0".join(example.input).encode(), digest_size=8).digest()
    share = int.from_bytes(digest, "little") / 2**64
    if share < SHARES["test"]:
        return "test"
    return "validation" if share < SHARES["test"] + SHARES["validation"] else "train"


class AlgorithmicSplits(DataSplits):
    """Examples of an algorithmic task, made as they are needed: none is prepared, and none is trained on twice."""

    source: AlgorithmicExamples
    tokenizer: SymbolTokenizer

    length_means = "size of an example, as its task counts it"

    def __init__(self, source: AlgorithmicExamples) -> None:
        self.source = source
        self.tokenizer = SymbolTokenizer(source.task.symbols)
        self.state = {
            "symbols": list(source.task.symbols),
            "train_lengths": list(source.train_lengths),
            "seed": source.seed,
        }
        self._held_out = cache(source.held_out_examples)

    @property
    def longest_trained(self) -> int:
        return self.source.lengths_trained[-1]

    def lengths_of(self, split: str, max_length: int | None) -> list[int]:
        if max_length is None:  # without making all examples, which takes a second of some tasks
            return [length for length in self.lengths if self.source.has_held_out_examples(split, length)]
        return [length for length in self.lengths if self.examples(split, length, max_length)]

    @property
    def lengths(self) -> Sequence[int]:
        return sorted(set(self.source.test_lengths))

    def training_batches(self, task: Collating, plan: BatchPlan) -> Iterable[Batch]:
        from poslab.data.order import training_loader

        # Each index of the stream is another example.
        return training_loader(TrainingExamples(self.source, task.collate), plan, list, self.source.num_workers)

    def held_out(self, split: str, length: int, task: Collating, max_length: int | None) -> HeldOutExamples:
        if length < 1 or not self.source.task.has_length(length):
            raise ValueError(f"lengths must be lengths that the task has, got {length:,}")
        return HeldOutExamples(self.examples(split, length, max_length), task.collate)

    def identity(self, split: str, length: int) -> str:
        examples = json.dumps([[*map(list, example)] for example in self._held_out(split, length)])
        return f"{self.source.title}-{hashlib.sha256(examples.encode()).hexdigest()[:20]}/{split}@{length}"

    def num_examples(self, split: str, max_length: int | None) -> dict[int, int]:
        lengths = self.lengths_of(split, max_length)
        return {length: len(self.examples(split, length, max_length)) for length in lengths}

    def report_lines(self, max_length: int | None) -> list[str]:
        first, last = self.source.lengths_trained[0], self.source.lengths_trained[-1]
        return [
            f"{self.source.title}: lengths {first} to {last}, {len(self.source.task.symbols)} symbols, "
            f"tested at {', '.join(map(str, self.lengths_of('test', max_length)))}"
        ]

    def examples(self, split: str, length: int, max_length: int | None = None) -> list[Example]:
        """Return the held-out examples of a length, of at most `max_length` tokens."""
        return [e for e in self._held_out(split, length) if max_length is None or e.num_tokens <= max_length]


@dataclass(eq=False)
class TrainingExamples:
    """Training batches by indices of the stream."""

    source: AlgorithmicExamples
    collate: Collate

    def __getitems__(self, indices: Sequence[int]) -> Batch:
        step = indices[0] // self.source.batch_size
        examples = self.source.training_examples(step, [index % self.source.batch_size for index in indices])
        return self.collate(examples, np.ones(len(examples), dtype=bool))


@dataclass(eq=False)
class HeldOutExamples(HeldOut):
    """Batches of held-out examples by number; numbers from their count on are rows that do not count."""

    examples: Sequence[Example]
    collate: Collate

    @property
    def num_tokens(self) -> np.ndarray:
        return np.array([example.num_tokens for example in self.examples], dtype=np.int64)

    def __getitems__(self, numbers: Sequence[int]) -> Batch:
        examples = [self.examples[min(number, len(self.examples) - 1)] for number in numbers]
        return self.collate(examples, np.array(numbers) < len(self.examples))


# Types of a task's arguments.
AtLeastOne = Annotated[int, Range(at_least=1)]
AtLeastTwo = Annotated[int, Range(at_least=2)]
BLANK = "__"  # the symbol of an input that a symbol of the output replaces


class Example(NamedTuple):
    """An input and the one right answer to it, each of at least one symbol.

    The output follows the input. If the input has blanks, not at its beginning, the output is what fills them in their
    order.
    """

    input: tuple[str, ...]
    output: tuple[str, ...]

    @property
    def num_tokens(self) -> int:
        """The most tokens that a model reads: input, output and one between them, or with blanks all but the last."""
        return len(self.input) - 1 if BLANK in self.input else len(self.input) + len(self.output) + 1


@dataclass_transform(frozen_default=True)
class AlgorithmicTask(ABC):
    """Examples of any length, made by a rule from the draws of a generator.

    Equally seeded generators make equal examples. The docstring of a task defines its lengths. Every task is a
    dataclass: its attributes with an annotation are arguments, of the type and in the range that this declares; any
    other value raises ValueError.
    """

    stop: ClassVar[str | None] = None
    """The symbol that ends an output where others fill it up, which no accuracy counts; None where none does."""

    shortest: ClassVar[int] = 1  # the shortest length

    def __init_subclass__(cls, **arguments: Any) -> None:
        super().__init_subclass__(**arguments)
        with_checked_arguments(dataclass(frozen=True)(cls))
        del cls.__setattr__, cls.__delattr__  # a subclass that is decorated as a dataclass would be rejected

    @property
    @abstractmethod
    def symbols(self) -> tuple[str, ...]:
        """All symbols of inputs and outputs, each once, in a fixed order; a symbol becomes a token."""

    def has_length(self, length: int) -> bool:
        """Return whether there are examples of a length, by default of at least `shortest`."""
        return length >= self.shortest

    @abstractmethod
    def example(self, length: int, generator: np.random.Generator) -> Example:
        """Draw an example of a length that the task has."""

    def most_tokens(self, length: int) -> int:
        """Return the tokens of the longest example of a length; tasks whose examples differ in size override it."""
        generator = np.random.default_rng(0)
        return max(self.example(length, generator).num_tokens for _ in range(32))


def draw(symbols: Sequence[str], length: int, generator: np.random.Generator) -> tuple[str, ...]:
    """Draw a string of that length; all symbols are equally likely at each position."""
    # All at once, and then Python's own integers: one draw a symbol costs a microsecond each.
    return tuple([symbols[index] for index in generator.integers(len(symbols), size=length).tolist()])


@cache
def numbered(count: int, prefix: str = "") -> tuple[str, ...]:
    """Return symbols numbered from 0: `numbered(3, "k")` is ("k0", "k1", "k2")."""
    return tuple([f"{prefix}{number}" for number in range(count)])

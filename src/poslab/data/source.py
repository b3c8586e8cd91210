"""The base classes of sources, whose arguments a user types, and of their opened splits; without torch and Lightning.

A source opens its own splits: `DataSource.open` returns `DataSplits`, over which `run_data.RunData` makes batches.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Protocol, dataclass_transform

import numpy as np

from poslab.arguments import NOT_HUGE, Count, Range, nearest, shown, with_checked_arguments
from poslab.data.cache import key
from poslab.data.kinds import Kind
from poslab.io.files import neighbours

if TYPE_CHECKING:
    from poslab.data.batch import Batch
    from poslab.data.order import BatchPlan, RunLoader
    from poslab.data.tokenizers import Tokenizer

Natural = Annotated[int, Range(at_least=0)]
Share = Annotated[float, Range(above=0, below=1)]  # share of the data that is held out

VocabSize = Annotated[int, Range(at_least=257), NOT_HUGE]

LEARNED_TOKENIZERS = ("bpe", "bpe_digits")
BUILT_IN_TOKENIZERS = ("bytes", *LEARNED_TOKENIZERS)
SPLITS = ("train", "validation", "test")
HELD_OUT = SPLITS[1:]


def check_split(split: str) -> None:
    """Raise ValueError unless a split is held out from training."""
    if split not in HELD_OUT:
        raise ValueError(f"split must be {' or '.join(HELD_OUT)}, got {split}")


class HeldOut(Protocol):
    """Held-out examples or windows of one length, as batches of the items of these numbers.

    Numbers beyond the last item are rows that do not count.
    """

    @property
    def num_tokens(self) -> np.ndarray:
        """Tokens of each item, (N,), in the measure of `Model.max_length`."""

    @property
    def longest(self) -> int:
        """Most tokens of an item, which decides how many fit in a batch."""
        return int(self.num_tokens.max())

    def __getitems__(self, numbers: list[int]) -> Any: ...


class Collating(Protocol):
    """The part of a task that data needs."""

    def collate(self, rows: Any, counts: np.ndarray) -> Batch:
        """Return a batch, as `Task.collate` does."""

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of examples that a batch is made of."""

    @property
    def measured_columns(self) -> tuple[str, ...]:
        """The further columns that an evaluation needs."""


class DataSplits(ABC):
    """Training, validation and test of a source, opened. It has a subclass for each way in which data is stored."""

    length_means: str = "number of tokens"  # the meaning of the lengths of `lengths_of`

    source: DataSource
    tokenizer: Tokenizer

    state: dict[str, Any]
    """A value that changes whenever the data does; a checkpoint keeps it, and resuming compares it."""

    @property
    def num_rows(self) -> int | None:
        """Number of rows of training; None if they are not a fixed set."""
        return None

    @property
    @abstractmethod
    def lengths(self) -> Sequence[int]:
        """The lengths of test metrics, ascending; some may have no items."""

    @property
    def longest_trained(self) -> int:
        """The longest window or example of training, in the measure of `lengths`."""
        return self.source.sequence_length

    @abstractmethod
    def lengths_of(self, split: str, max_length: int | None) -> list[int]:
        """Return the lengths at which a held-out split has items of at most `max_length` tokens, ascending."""

    @abstractmethod
    def held_out(self, split: str, length: int, task: Collating, max_length: int | None) -> HeldOut:
        """Return the items of a split at a length, of at most `max_length` tokens; ValueError for an unknown length."""

    @abstractmethod
    def training_batches(self, task: Collating, plan: BatchPlan) -> Iterable[Batch]:
        """Return the micro-batches of training, in the order of a plan."""

    def identity(self, split: str, length: int) -> str:
        """Return a text that is the same for all runs whose held-out items are, whatever their encoding and seed."""
        return f"{self.state['prepared']}/{split}@{length}"

    @abstractmethod
    def report_lines(self, max_length: int | None) -> list[str]:
        """Return a few lines on the data, for a person to read before training."""

    def num_examples(self, split: str, max_length: int | None) -> dict[int, int]:
        """Return the number of examples of a held-out split by length; none for windows, and where all have as many."""
        return {}

    def check_training(self, num_earlier: int) -> None:  # noqa: B027 - most have nothing to check
        """Raise ValueError if a split has too little to train on."""


@dataclass_transform(kw_only_default=True)
@dataclass(kw_only=True)
class DataSource:
    """A source of text, of examples, of an algorithmic task, or of arrays such as images.

    A mistake in its arguments or its data raises ValueError, one sentence that starts with the argument's name.

    Every subclass is a dataclass: its attributes with an annotation are arguments, given by keyword and checked. It
    takes the arguments of its bases too.

    Args:
        batch_size: windows or examples in one optimizer step over all devices and micro-batches together, at least 1.
        sequence_length: training length for hyperparameters of encodings that follow it.
        overfit: train on the first batch over and over, to see that a model learns at all (default false).
        num_workers: processes that load batches; 0 (default) loads them in the training process, which always reads
            streams.
        seed: of the order of training, or of its examples, at least 0. All seeds share one validation and test.
    """

    batch_size: Count = 8
    sequence_length: Natural
    overfit: bool = False
    num_workers: Natural = 0
    seed: Natural = 0

    split_version: ClassVar[int] = 1
    """Version of the rule that divides its examples into splits. From 2 on, near-copies stay together."""

    @property
    def title(self) -> str:
        """Its name in the cache and in reports."""
        raise NotImplementedError

    @property
    def kind(self) -> Kind:
        """The kind of its data, by which its task is chosen."""
        raise NotImplementedError

    def check(self) -> None:
        """Raise ValueError for mistakes that lie on the disk rather than in a value; takes milliseconds."""

    def prepare(self, joined: bool = False) -> object:
        """Write the data that `open` reads, unless it is there; `joined` is True if texts of a pair are read as one."""

    def open(self, joined: bool = False) -> DataSplits:
        """Return training, validation and test, which are prepared first if they are not yet."""
        raise NotImplementedError

    def reaches(self) -> list[str]:
        """Return what it reads beyond the files of this machine, or writes outside the user's cache, in a few words.

        A run of someone else does so only after `trust=data`.
        """
        return []

    def __init_subclass__(cls, **arguments: Any) -> None:
        super().__init_subclass__(**arguments)
        with_checked_arguments(dataclass(kw_only=True)(cls))


class PreparedSource(DataSource, ABC):
    """A source of data that is divided into splits and kept on the disk, with the settings of its batches.

    Args:
        validation_fraction: share of the data held out for validation, above 0; not read where the source has its
            own such split (default 0.05).
        test_fraction: the same for test; the two together stay below 1 (default 0.05).
        cache_dir: directory of prepared data, and of rows of the Hub (default: `poslab` in the user's cache directory).
            It is verified whenever it is opened, and prepared again where it is damaged.
    """

    validation_fraction: Share = 0.05
    test_fraction: Share = 0.05
    cache_dir: str | None = None

    def __post_init__(self) -> None:
        if self.validation_fraction + self.test_fraction >= 1:
            held_out = f"{self.validation_fraction} + {self.test_fraction}"
            raise ValueError(f"test_fraction and validation_fraction must leave text for training, got {held_out}")
        if self.cache_dir is not None:
            require_text("cache_dir", self.cache_dir)

    def check(self) -> None:
        try:
            existing = next(path for path in (self.cache, *self.cache.parents) if path.exists())
            is_writable = existing.is_dir() and os.access(existing, os.W_OK)
        except (OSError, RuntimeError):  # too long a name, or the home of a user who is not there
            is_writable = False
        if not is_writable:
            raise ValueError(
                f"cache_dir must be a directory that can be written, got {str(self.cache_dir or self.cache)!r}"
            )

    def reaches(self) -> list[str]:
        is_inside = self.cache.resolve().is_relative_to(default_cache().resolve())
        return [] if is_inside else [f"write into dataset.cache_dir={self.cache_dir}"]

    @cached_property
    @abstractmethod
    def identity(self) -> str:
        """A string that changes whenever the source's text or examples do."""

    @property
    def fractions(self) -> dict[str, float]:
        """Shares of the data that are held out, by split."""
        return {"validation": self.validation_fraction, "test": self.test_fraction}

    @property
    def cache(self) -> Path:
        """The directory of prepared data."""
        if self.cache_dir is not None:
            return Path(self.cache_dir).expanduser().absolute()
        return default_cache()

    def prepared_folder(self, **settings: object) -> Path:
        """Return the folder of the data that is prepared with these settings, and with the settings of every source."""
        settings |= {"source": self.identity, "fractions": list(self.fractions.values())}
        return self.cache / f"{self.title}-{key(settings)}"

    def example_loader(self, batches: Any, num_tokens: np.ndarray, plan: BatchPlan) -> RunLoader:
        """Return the batches of a whole run over examples of these numbers of tokens, (N,)."""
        from poslab.data.order import ExampleOrder, IndependentOrder, training_loader

        order: IndependentOrder | ExampleOrder
        if plan.draws_independently:
            order = IndependentOrder(len(num_tokens), self.batch_size, self.seed)
        else:
            repeat = self.batch_size if self.overfit else None
            order = ExampleOrder(num_tokens, self.batch_size, self.seed, repeat)
        return training_loader(batches, plan, order.items, self.num_workers)


class Source(PreparedSource):
    """A source of text.

    Args:
        tokenizer: `bytes` (256 byte values and an end-of-document token), `bpe` (byte-level byte-pair encoding, trained
            on the training split), `bpe_digits` (the same, where each digit is a token), or the path of a Hugging Face
            tokenizer.json.
        vocab_size: tokens of a vocabulary that is learned, at least 257 (default 4096); no other tokenizer reads it.
    """

    tokenizer: str = "bytes"
    vocab_size: VocabSize = 4096

    def __post_init__(self) -> None:
        super().__post_init__()
        require_text("tokenizer", self.tokenizer)

    def check(self) -> None:
        if self.tokenizer not in BUILT_IN_TOKENIZERS and not os.path.isfile(os.path.expanduser(self.tokenizer)):
            choices = [*BUILT_IN_TOKENIZERS, *neighbours(self.tokenizer)]
            raise ValueError(
                f"tokenizer must be {', '.join(BUILT_IN_TOKENIZERS)} or the path of a tokenizer.json,"
                f" got {self.tokenizer!r}{nearest(self.tokenizer, choices)}"
            )
        super().check()


def default_cache() -> Path:
    """Return the directory of prepared data where none is named."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").absolute() / "poslab"


def require_choice(name: str, value: Any, available: Iterable[str]) -> None:
    """Raise ValueError for an argument that names nothing available."""
    names = list(available)
    if value not in names:
        raise ValueError(f"{name} must be one of {', '.join(names)}, got {shown(value)}{nearest(str(value), names)}")


def require_text(name: str, value: Any) -> None:
    """Raise ValueError for an argument that is not a text of at least one character."""
    if not isinstance(value, str) or not value:
        raise ValueError(f"{name} must be a name or path, got {value!r}")

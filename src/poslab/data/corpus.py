"""What every source of text has in common: the arguments that a user types, checked without importing torch."""

import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from poslab.configuration import nearest
from poslab.data.paths import neighbours

if TYPE_CHECKING:
    from datasets import Dataset

BUILT_IN_TOKENIZERS = ("bytes", "bpe")


@dataclass(kw_only=True)
class Corpus(ABC):
    """A source of text and how it becomes windows of tokens. Subclasses say where the text comes from.

    Args:
        sequence_length: tokens T of a training window, at least 1 (default 256).
        batch_size: windows in one optimizer step over all devices and micro-batches together, at least 1 (default 8).
        tokenizer: `bytes` (256 byte values and an end-of-document token), `bpe` (byte-level byte-pair encoding, trained
            on the training split), or the path of a Hugging Face tokenizer.json.
        vocab_size: tokens of a `bpe` vocabulary, at least 257 (default 4096); no other tokenizer reads it.
        validation_fraction: share of the text held out for validation, above 0; not read where the source has such a
            split of its own (default 0.05).
        test_fraction: the same for test; the two together stay below 1 (default 0.05).
        length_multiples: evaluation is on windows of each of these times `sequence_length`, as far as validation and
            test fill one; 1 is among them (default 1, 2, 4, 8).
        deduplicate: drop repeated paragraphs, and drop from validation and test what training still holds; the text
            is held in memory for it.
        document_boundaries: number the documents of a window (`TokenBatch.segments`) and predict nothing across
            their boundaries; otherwise documents follow one another as one text.
        overfit: train on the first batch over and over, to see that a model learns at all (default false).
        num_workers: processes that load batches; 0 loads them in the training process, which always reads streams
            (default 0).
        cache_dir: where tokens are kept (default: `poslab` in the user's cache directory).
        seed: of the order of training windows, at least 0. The split does not depend on it: all seeds share one test.

    Raises:
        ValueError: one sentence that begins with the argument's name.
    """

    sequence_length: int = 256
    batch_size: int = 8
    tokenizer: str = "bytes"
    vocab_size: int = 4096
    validation_fraction: float = 0.05
    test_fraction: float = 0.05
    length_multiples: Sequence[int] = (1, 2, 4, 8)
    deduplicate: bool = False
    document_boundaries: bool = False
    overfit: bool = False
    num_workers: int = 0
    cache_dir: str | None = None
    seed: int = 0

    label: ClassVar[str]

    def __post_init__(self) -> None:
        require_integer("sequence_length", self.sequence_length, least=1)
        require_integer("batch_size", self.batch_size, least=1)
        require_text("tokenizer", self.tokenizer)
        require_integer("vocab_size", self.vocab_size, least=257)
        for name in ("validation_fraction", "test_fraction"):
            fraction = getattr(self, name)
            if isinstance(fraction, bool) or not isinstance(fraction, int | float) or not 0 < fraction < 1:
                raise ValueError(f"{name} must be a number between 0 and 1, got {fraction!r}")
        if self.validation_fraction + self.test_fraction >= 1:
            held_out = f"{self.validation_fraction} + {self.test_fraction}"
            raise ValueError(f"test_fraction and validation_fraction must leave text for training, got {held_out}")
        for multiple in self.length_multiples:
            require_integer("length_multiples", multiple, least=1)
        if 1 not in self.length_multiples:
            raise ValueError(f"length_multiples must hold 1, the training length, got {list(self.length_multiples)}")
        require_integer("num_workers", self.num_workers, least=0)
        if self.cache_dir is not None:
            require_text("cache_dir", self.cache_dir)
        require_integer("seed", self.seed, least=0)

    def check(self) -> None:
        """Find, in milliseconds, the mistakes that lie on the disk rather than in a value; raises ValueError."""
        if self.tokenizer not in BUILT_IN_TOKENIZERS and not Path(self.tokenizer).expanduser().is_file():
            choices = [*BUILT_IN_TOKENIZERS, *neighbours(self.tokenizer)]
            raise ValueError(
                f"tokenizer must be bytes, bpe or the path of a tokenizer.json,"
                f" got {self.tokenizer!r}{nearest(self.tokenizer, choices)}"
            )
        existing = next(path for path in (self.cache, *self.cache.parents) if path.exists())
        if not (existing.is_dir() and os.access(existing, os.W_OK)):
            raise ValueError(f"cache_dir must be a directory that can be written, got {str(self.cache)!r}")

    @property
    def cache(self) -> Path:
        """The directory where prepared text is kept."""
        if self.cache_dir is not None:
            return Path(self.cache_dir).expanduser().absolute()
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").absolute() / "poslab"

    @property
    def longest(self) -> int:
        """Tokens of the longest window that is evaluated."""
        return self.sequence_length * max(self.length_multiples)

    @property
    def has_few_documents(self) -> bool:
        """Whether there are too few to hold whole ones out, so that they are cut into parts first."""
        return False

    @property
    def streaming(self) -> bool:
        """Whether training reads the text from its source, and only the beginning of it is prepared."""
        return False

    @cached_property
    @abstractmethod
    def identity(self) -> str:
        """A string that changes whenever the source's text does."""

    @abstractmethod
    def documents(self) -> "dict[str, Dataset]":
        """The text by split, one document a row in a column `text`: `train`, and any held-out split of its own."""

    def training_batches(self, epoch: int, batch_size: int) -> Iterator[list[str]]:
        """One pass over the training text where it is streamed, in the order of this epoch: lists of documents."""
        raise NotImplementedError(f"{type(self).__name__} is not streamed")


def as_dataset(texts: list[str]) -> "Dataset":
    """A Hugging Face dataset with one column `text`."""
    from datasets import Dataset, Features, Value

    # Arrow's plain strings end at 2 GB a column.
    return Dataset.from_dict({"text": texts}, features=Features({"text": Value("large_string")}))


def require_integer(name: str, value: Any, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        kind = "a positive integer" if least == 1 else f"an integer of at least {least}"
        raise ValueError(f"{name} must be {kind}, got {value!r}")


def require_text(name: str, value: Any) -> None:
    if not isinstance(value, str) or not value:
        raise ValueError(f"{name} must be a name or path, got {value!r}")

"""The base classes of sources whose data is prepared: the arguments that a user types, checked without torch."""

import os
from abc import ABC, abstractmethod
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, ClassVar

from poslab.arguments import NOT_HUGE, Count, Range, nearest
from poslab.data.data_source import DataSource
from poslab.data.paths import neighbours

Natural = Annotated[int, Range(at_least=0)]
Share = Annotated[float, Range(above=0, below=1)]
"""Share of the data that is held out."""

VocabSize = Annotated[int, Range(at_least=257), NOT_HUGE]

BUILT_IN_TOKENIZERS = ("bytes", "bpe")


class PreparedSource(DataSource, ABC):
    """A source of data that is divided into splits and kept on the disk, with the settings of its batches.

    Args:
        batch_size: windows or examples in one optimizer step over all devices and micro-batches together, at least 1
            (default 8).
        validation_fraction: share of the data held out for validation, above 0; not read where the source has such a
            split of its own (default 0.05).
        test_fraction: the same for test; the two together stay below 1 (default 0.05).
        overfit: train on the first batch over and over, to see that a model learns at all (default false).
        num_workers: processes that load batches; 0 (default) loads them in the training process, which always reads
            streams.
        cache_dir: directory of prepared data, and of rows of the Hub (default: `poslab` in the user's cache directory).
            It is verified whenever it is opened, and prepared again where it is damaged.
        seed: of the order of training, at least 0. The split does not depend on it: all seeds share one test.

    Raises:
        ValueError: one sentence that begins with the argument's name.
    """

    batch_size: Count = 8
    validation_fraction: Share = 0.05
    test_fraction: Share = 0.05
    overfit: bool = False
    num_workers: Natural = 0
    cache_dir: str | None = None
    seed: Natural = 0

    title: ClassVar[str]
    """Its name in the cache and in reports."""

    def __post_init__(self) -> None:
        if self.validation_fraction + self.test_fraction >= 1:
            held_out = f"{self.validation_fraction} + {self.test_fraction}"
            raise ValueError(f"test_fraction and validation_fraction must leave text for training, got {held_out}")
        if self.cache_dir is not None:
            require_text("cache_dir", self.cache_dir)

    def check(self) -> None:
        """Raise ValueError for mistakes that lie on the disk rather than in a value; takes milliseconds."""
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


class Source(PreparedSource):
    """A source of text.

    Args:
        tokenizer: `bytes` (256 byte values and an end-of-document token), `bpe` (byte-level byte-pair encoding, trained
            on the training split), or the path of a Hugging Face tokenizer.json.
        vocab_size: tokens of a `bpe` vocabulary, at least 257 (default 4096); no other tokenizer reads it.
        others: those of `PreparedSource`.
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
                f"tokenizer must be bytes, bpe or the path of a tokenizer.json,"
                f" got {self.tokenizer!r}{nearest(self.tokenizer, choices)}"
            )
        super().check()


def default_cache() -> Path:
    """Return the directory of prepared data where none is named."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").absolute() / "poslab"


def require_choice(name: str, value: str, available: Iterable[str]) -> None:
    """Raise ValueError for an argument that names nothing available."""
    names = list(available)
    if value not in names:
        raise ValueError(f"{name} must be one of {', '.join(names)}, got {value!r}{nearest(value, names)}")


def require_text(name: str, value: Any) -> None:
    """Raise ValueError for an argument that is not a text of at least one character."""
    if not isinstance(value, str) or not value:
        raise ValueError(f"{name} must be a name or path, got {value!r}")

"""A user's own text files."""

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from poslab.data.corpus import Corpus, as_dataset
from poslab.data.memory import available_memory, require_memory
from poslab.data.paths import matching_files
from poslab.data.splitting import FEW_DOCUMENTS

if TYPE_CHECKING:
    from datasets import Dataset


@dataclass(kw_only=True)
class TextFiles(Corpus):
    """Plain UTF-8 text files, each a document. Fewer than 20 files are cut into parts before some are held out.

    The text is held in memory while it is tokenised; a larger one is for `dataset=hub dataset.path=text`, where a
    document is a line.

    Args:
        files: paths or globs (`**` goes through folders), one or a list.
        others: those of `Corpus`.
    """

    files: str | Sequence[str] | None = None

    title: ClassVar[str] = "text"

    def __post_init__(self) -> None:
        super().__post_init__()
        patterns = [self.files] if isinstance(self.files, str) else self.files
        if not isinstance(patterns, Sequence) or not patterns or not all(isinstance(p, str) and p for p in patterns):
            raise ValueError(f"files must be a path, a glob or a list of them, got {self.files!r}")
        self.patterns = list(patterns)

    def check(self) -> None:
        super().check()
        for path in self.paths:
            if not os.access(path, os.R_OK):
                raise ValueError(f"files must be readable, but {str(path)!r} is not: its permissions forbid it")
            if path.stat().st_size == 0:
                raise ValueError(f"files must hold text, but {str(path)!r} is empty")
        size = sum(path.stat().st_size for path in self.paths)
        needed = self.sequence_length + 1
        window = (
            f"fewer than the {needed} tokens of a window (sequence_length {self.sequence_length} and one to predict)"
        )
        if size < needed:
            raise ValueError(f"files hold {size} bytes of text, {window}")
        for name in ("validation_fraction", "test_fraction"):
            share = int(size * getattr(self, name))
            if share < needed:
                raise ValueError(
                    f"{name} of {getattr(self, name)} of the {size} bytes in files is {share} bytes, {window}"
                )

    @cached_property
    def paths(self) -> list[Path]:
        """The files that the patterns name, each once, in order of their paths."""
        return sorted({path for pattern in self.patterns for path in matching_files("files", pattern)})

    @property
    def has_few_documents(self) -> bool:
        return len(self.paths) < FEW_DOCUMENTS

    @cached_property
    def identity(self) -> str:
        contents = hashlib.sha256()
        for path in self.paths:
            with path.open("rb") as file:
                contents.update(hashlib.file_digest(file, "sha256").digest())
        return contents.hexdigest()

    def documents(self) -> "dict[str, Dataset]":
        available, held = available_memory(), 0
        for path in self.paths:
            held += path.stat().st_size
            require_memory("files", path, held, available)
        return {"train": as_dataset([read(path) for path in self.paths])}


def read(path: Path) -> str:
    """The text of a UTF-8 file, lines ended by a line feed; ValueError names the file and the byte where it is not."""
    try:
        return path.read_bytes().decode("utf-8").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise ValueError(f"files must be UTF-8 text, but {str(path)!r} is not at byte {error.start}") from None

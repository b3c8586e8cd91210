"""A user's own text files."""

import hashlib
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from poslab.data.columns import as_examples
from poslab.data.corpus import Corpus
from poslab.data.splitting import FEW_DOCUMENTS
from poslab.io.files import files_of, patterns_of, require_content

if TYPE_CHECKING:
    from datasets import Dataset


class TextFiles(Corpus):
    """Plain UTF-8 text files, each a document. Fewer than 20 files are cut into parts before some are held out.

    The text is in memory while it is tokenised; a larger one is for `dataset=hub dataset.path=text`, where a document
    is a line.

    Args:
        files: paths or globs (`**` goes through folders), one or a list.
    """

    files: str | Sequence[str] | None = None

    title = "text"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.patterns = patterns_of("files", self.files)

    def check(self) -> None:
        super().check()
        for path in self.paths:
            require_content("files", path, "text")

    @cached_property
    def paths(self) -> list[Path]:
        """The files that the patterns name, each once, in order of their paths."""
        return files_of("files", self.patterns)

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
        return {"train": as_examples(text=[read(path) for path in self.paths])}


def read(path: Path, key: str = "files") -> str:
    """Return the text of a UTF-8 file that a key names, with lines ended by a line feed; ValueError if it is other."""
    try:
        return path.read_bytes().decode("utf-8").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise ValueError(f"{key} must be UTF-8 text, but {str(path)!r} is not at byte {error.start}") from None

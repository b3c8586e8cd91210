"""A user's own text files."""

import hashlib
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from poslab.data.corpus import Corpus
from poslab.data.paths import files_of, patterns_of, require_content
from poslab.data.splitting import FEW_DOCUMENTS, as_dataset

if TYPE_CHECKING:
    from datasets import Dataset


MEMINFO = Path("/proc/meminfo")
CONTAINER_LIMIT = Path("/sys/fs/cgroup/memory.max")
BYTES_PER_BYTE = 8
"""Memory that a byte of text takes while it is prepared, measured on texts of 900 bytes."""


class TextFiles(Corpus):
    """Plain UTF-8 text files, each a document. Fewer than 20 files are cut into parts before some are held out.

    The text is in memory while it is tokenised; a larger one is for `dataset=hub dataset.path=text`, where a document
    is a line.

    Args:
        files: paths or globs (`**` goes through folders), one or a list.
        others: those of `Corpus`.
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
        needed, available = BYTES_PER_BYTE * sum(path.stat().st_size for path in self.paths), available_memory()
        if available is not None and needed > available:
            raise ValueError(
                f"files must fit in memory, but their text takes {needed / 1e9:.1f} GB where {available / 1e9:.1f} GB "
                "can be had; dataset=hub dataset.path=text leaves it on the disk"
            )
        return {"train": as_dataset([read(path) for path in self.paths])}


def read(path: Path) -> str:
    """Return the text of a UTF-8 file with lines ended by a line feed; ValueError names the first byte that is not."""
    try:
        return path.read_bytes().decode("utf-8").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise ValueError(f"files must be UTF-8 text, but {str(path)!r} is not at byte {error.start}") from None


def available_memory() -> int | None:
    """Return how many bytes a process can still take; None where the system does not report it."""
    if not MEMINFO.exists():
        return None
    lines = dict(line.split(":", 1) for line in MEMINFO.read_text().splitlines())
    available = int(lines["MemAvailable"].split()[0]) * 1024
    limit = CONTAINER_LIMIT.read_text().strip() if CONTAINER_LIMIT.exists() else "max"
    return available if limit == "max" else min(available, int(limit))

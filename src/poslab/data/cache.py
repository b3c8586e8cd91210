"""Prepared text on the disk: one folder for each combination of text and settings, written once.

tokenizer.json                            the tokenizer, see `tokenizers.py`
train.bin  validation.bin  test.bin       token ids, one array each
facts.json                                the dtype of the arrays, and what was counted and measured
"""

import hashlib
import json
import os
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

SPLITS = ("train", "validation", "test")
_STALE_SECONDS = 24 * 60 * 60


@dataclass(frozen=True)
class Facts:
    """What is known of prepared text, by split where it is a dictionary.

    Args:
        dtype: of the token arrays.
        num_documents, num_tokens: how many.
        num_bytes: of the text in UTF-8.
        overlap: share of the bytes of `validation` and `test` inside 60-byte strings that training holds too.
    """

    dtype: str
    num_documents: dict[str, int]
    num_tokens: dict[str, int]
    num_bytes: dict[str, int]
    overlap: dict[str, float]


@dataclass(frozen=True)
class TokenFile:
    """Token ids in a file, mapped into memory where they are used; a loader process gets the path, not the tokens."""

    path: Path
    dtype: str

    @cached_property
    def ids(self) -> np.ndarray:
        return np.memmap(self.path, dtype=self.dtype, mode="r")

    def __len__(self) -> int:
        return self.path.stat().st_size // np.dtype(self.dtype).itemsize

    def __reduce__(self) -> tuple[Any, ...]:
        return TokenFile, (self.path, self.dtype)


def key(settings: dict[str, Any]) -> str:
    """A short name for everything that decides which tokens come out."""
    text = json.dumps(settings, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:20]


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """A temporary folder that becomes `folder` when the block ends well, and is gone when it does not.

    When two processes prepare the same text at once, both finish and the folder of the first one stays. What a process
    left that was killed is removed a day later.

    Raises:
        ValueError: the disk refuses, or is full.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        _remove_stale(folder)
        temporary = folder.with_name(f"{folder.name}-{secrets.token_hex(8)}.tmp")
        temporary.mkdir()
        try:
            yield temporary
            if not folder.exists():
                _publish(temporary, folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    except OSError as error:
        raise ValueError(f"cache_dir {str(folder.parent)!r} cannot be written: {error}") from error


def _remove_stale(folder: Path) -> None:
    """Remove the temporary folders of `folder` in which nothing was written for a day."""
    for temporary in folder.parent.glob(f"{folder.name}-*.tmp"):
        # Another process may be removing it too.
        with suppress(FileNotFoundError):
            written = max(path.stat().st_mtime for path in (temporary, *temporary.iterdir()))
            if time.time() - written > _STALE_SECONDS:
                shutil.rmtree(temporary, ignore_errors=True)


def _publish(temporary: Path, folder: Path) -> None:
    try:
        os.replace(temporary, folder)
    except OSError:
        # A folder that holds something is never replaced: another process was first, with the same tokens.
        if not folder.exists():
            raise


def write_facts(folder: Path, facts: Facts) -> None:
    (folder / "facts.json").write_text(json.dumps(asdict(facts), indent=2) + "\n")


def read_facts(folder: Path) -> Facts:
    return Facts(**json.loads((folder / "facts.json").read_text()))


def token_path(folder: Path, split: str) -> Path:
    return folder / f"{split}.bin"

"""Prepared data on the disk: one folder for each combination of data and settings, written once.

Every folder contains `checksums.json`, the size and hash of each of its other files. A folder of text also contains

tokenizer.json                            the tokenizer, see `tokenizers.py`
train.bin  validation.bin  test.bin       token ids, one array each
facts.json                                the dtype of the arrays, counts and measurements
"""

import hashlib
import json
import os
import secrets
import shutil
import stat
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, TypeVar

import numpy as np
import xxhash
from filelock import FileLock, Timeout

from poslab.arguments import Range
from poslab.io.files import read_json
from poslab.io.terminal import one_line

T = TypeVar("T")
Number = Annotated[int, Range(at_least=0)]
Share = Annotated[float, Range(at_least=0, at_most=1)]

CHECKSUMS = "checksums.json"
FACTS = "facts.json"


def require_splits(splits: Sequence[str], *facts: dict[str, Any]) -> None:
    """Raise ValueError for facts that are not of exactly these splits."""
    for fact in facts:
        if fact.keys() != set(splits):
            raise ValueError(f"facts must be of {' and '.join(splits)}, got {' and '.join(fact)}")


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
    """Return a short name for all settings that decide which tokens come out."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:20]


def fingerprint(paths: Iterable[Path], *settings: object) -> str:
    """Return a string that changes with the contents and the order of files, not their names, and with the settings."""
    contents = hashlib.sha256(json.dumps(settings).encode())
    for path in paths:
        with path.open("rb") as file:
            contents.update(hashlib.file_digest(file, "sha256").digest())
    return contents.hexdigest()


def verify_or_discard(folder: Path, check: Callable[[Path], object] = lambda folder: None) -> bool:
    """Return whether a folder is there and as it was written; remove a damaged one, with a line of warning.

    `check` is called with the folder, and raises ValueError for contents that are not Poslab's. ValueError also if the
    disk does not remove it.
    """
    try:
        number = folder.stat().st_ino
    except (FileNotFoundError, NotADirectoryError):
        return False
    try:
        _check_files(folder)
        check(folder)
        return True
    except (OSError, ValueError) as error:
        print(one_line(f"warning: {error}: the data is prepared again"), file=sys.stderr)
    with writing(folder), suppress(FileNotFoundError):
        # Another process may have found the same damage and have prepared the data again by now.
        if folder.stat().st_ino == number:
            aside = _temporary(folder)
            os.replace(folder, aside)
            shutil.rmtree(aside, ignore_errors=True)
            if not aside.is_dir() or aside.is_symlink():
                aside.unlink()
    return False


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """Yield a temporary folder, which becomes `folder` if the block succeeds and is removed if it fails.

    It is on the disk with its checksums before it gets its name. When two processes prepare the same data at once, both
    finish and the folder of the first one stays. Leftovers of killed processes are removed first. ValueError if the
    disk cannot be written, or is full.
    """
    with writing(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        for lock in folder.parent.glob("*.tmp.lock"):  # what no process writes any more
            left_over = lock.with_suffix("")
            with suppress(Timeout, FileNotFoundError), _locked(left_over, timeout=0):
                shutil.rmtree(left_over, ignore_errors=True)
        temporary = _temporary(folder)
        with _locked(temporary):
            try:
                temporary.mkdir()
                yield temporary
                if not folder.exists():
                    (temporary / CHECKSUMS).write_text(json.dumps(_checksums(temporary)))
                    _sync(temporary)
                    try:
                        os.replace(temporary, folder)
                    except OSError:  # a folder with contents is never replaced: another process was first
                        if not folder.exists():
                            raise
                    _sync(folder.parent, deep=False)
            finally:
                shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def _locked(temporary: Path, timeout: float = -1) -> Iterator[None]:
    """Hold the lock that shows that a temporary folder is being written; Timeout if another process holds it."""
    lock = FileLock(f"{temporary}.lock", timeout=timeout)
    with lock:
        try:
            yield
        finally:
            Path(lock.lock_file).unlink(missing_ok=True)


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Raise ValueError where a folder of the cache cannot be written."""
    try:
        yield
    except OSError as error:
        raise ValueError(f"cache_dir {str(folder.parent)!r} cannot be written: {error}") from error


def _temporary(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}-{secrets.token_hex(8)}.tmp")


def _checksums(folder: Path) -> dict[str, list[Any]]:
    """Return the size and the hash of each file of a folder, by its path there."""
    paths = (path for path in sorted(folder.rglob("*")) if path.is_file() and path != folder / CHECKSUMS)
    return {path.relative_to(folder).as_posix(): _checksum(path) for path in paths}


def _checksum(path: Path) -> list[Any]:
    # This finds damage, not forgery: the hash is ten times as fast as one that withstands forgery.
    with path.open("rb") as file:
        return [path.stat().st_size, hashlib.file_digest(file, xxhash.xxh3_128).hexdigest()]


def _check_files(folder: Path) -> None:
    """Raise ValueError unless each file of a folder is as it was written, and none is a link, a pipe or a device."""
    path = folder
    try:
        files = {entry: entry.lstat() for entry in folder.rglob("*")}
        for entry, status in files.items():
            path = entry
            if not stat.S_ISREG(status.st_mode) and not stat.S_ISDIR(status.st_mode):
                raise ValueError("it is another kind of file")
        path = folder / CHECKSUMS
        checksums = read_json(path)
        if not checksums:
            raise ValueError("it names no file")
        for name, checksum in checksums.items():
            path = folder / name
            # Sizes first: they cost nothing, and a name outside the folder is not one of its files.
            if checksum[0] != files[path].st_size or checksum != _checksum(path):
                raise ValueError("its contents are others")
    except (OSError, ValueError, TypeError, LookupError) as error:
        raise ValueError(f"{path} is not as it was written") from error


def _sync(folder: Path, deep: bool = True) -> None:
    """Wait until a folder and its contents are on the disk."""
    for path in (*(folder.rglob("*") if deep else ()), folder):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def write_facts(folder: Path, facts: Any) -> None:
    """Write the facts of prepared data, a dataclass, to `facts.json`."""
    (folder / FACTS).write_text(json.dumps(asdict(facts), indent=2) + "\n")


def read_facts(folder: Path, kind: type[T]) -> T:
    """Read what `write_facts` wrote of a class with checked arguments; ValueError where they are not of their types."""
    try:
        return kind(**read_json(folder / FACTS))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{folder / FACTS} is damaged: {error}") from error

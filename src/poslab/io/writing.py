"""Writers of files that are whole or absent, in folders whose earlier contents somebody else may have chosen."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Open a new file that replaces `path` once it is whole.

    Nobody can put a link in its way: its temporary name is random, and a file that exists is never opened.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.writing")
    try:
        with temporary.open("xb") as file:
            yield file
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_atomically(path: Path, text: str) -> None:
    """Write a text file that is whole or absent."""
    with replacing(path) as file:
        file.write(text.encode())


def refuse_links(folder: Path) -> None:
    """Raise ValueError if a folder holds anything but files and folders, at any depth.

    A symbolic link in a stranger's folder can make a program write to, or read, a file anywhere. The folder itself may
    be reached through a link, which belongs to its user.
    """
    waiting = [str(folder)]
    while waiting:
        for entry in _entries(waiting.pop()):
            if entry.is_symlink():
                raise ValueError(
                    f"{folder} must hold no symbolic links, which could lead to any file, and {entry.path} is one: put "
                    "what it points to in its place, or move the whole folder and link that"
                )
            if entry.is_dir(follow_symlinks=False):
                waiting.append(entry.path)
            elif not entry.is_file(follow_symlinks=False):
                raise ValueError(f"{folder} must hold files and folders alone, and {entry.path} is neither")


def _entries(folder: str) -> list[os.DirEntry[str]]:
    """Return the entries of a folder; none if it has vanished."""
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise ValueError(f"{folder} cannot be read: {error.strerror}") from error

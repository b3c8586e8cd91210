"""Paths and globs as users type them, and the files that they name."""

import glob
import os
from pathlib import Path

from poslab.configuration.build import nearest


def neighbours(path: str) -> list[str]:
    """What is beside a path and not hidden, spelled as the path is."""
    folder = Path(path).expanduser().parent
    entries = sorted(entry.name for entry in folder.iterdir()) if folder.is_dir() else []
    names = [name for name in entries if not name.startswith(".")]
    return [os.path.join(os.path.dirname(path), name) for name in names]


def matching_files(argument: str, pattern: str) -> list[Path]:
    """The files that a path or a glob (`**` goes through folders) names.

    Args:
        argument: name of the argument that holds the pattern, for the message.
        pattern: what the user typed.

    Raises:
        ValueError: it names none, or a folder.
    """
    expanded = os.path.expanduser(pattern)
    if os.path.isdir(expanded):
        raise ValueError(f"{argument} must name files, and {pattern!r} is a folder: write '{pattern.rstrip('/')}/*'")
    if os.path.exists(expanded):
        return [Path(expanded)]
    files = [Path(match) for match in glob.glob(expanded, recursive=True) if os.path.isfile(match)]
    if files:
        return files
    if glob.has_magic(pattern):
        raise ValueError(f"{argument} names {pattern!r}, which matches no file")
    raise ValueError(f"{argument} names {pattern!r}, which does not exist{nearest(pattern, neighbours(pattern))}")

"""Paths and globs as users type them, and the files that they name."""

import glob
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from poslab.arguments import nearest


def neighbours(path: str) -> list[str]:
    """Return the other paths in the folder of a path that are not hidden, spelled as the path is."""
    folder = os.path.dirname(os.path.expanduser(path)) or "."
    try:
        entries = sorted(os.listdir(folder))
    except (OSError, ValueError):  # none, one that may not be read, or a name with a null character
        entries = []
    names = [name for name in entries if not name.startswith(".") and name != os.path.basename(path)]
    return [os.path.join(os.path.dirname(path), name) for name in names]


def patterns_of(argument: str, files: Any) -> list[str]:
    """Return one or several paths or globs as a list; ValueError if they are not."""
    patterns = [files] if isinstance(files, str) else files
    if not isinstance(patterns, Sequence) or not patterns or not all(isinstance(p, str) and p for p in patterns):
        raise ValueError(f"{argument} must be a path, a glob or a list of them, got {files!r}")
    return list(patterns)


def files_of(argument: str, patterns: Sequence[str]) -> list[Path]:
    """Return the files that patterns name, each once, in order of their paths; errors as of `matching_files`."""
    return sorted({path for pattern in patterns for path in matching_files(argument, pattern)})


def require_content(argument: str, path: Path, content: str) -> None:
    """Raise ValueError for a file that cannot be read, or is empty instead of holding `content`."""
    if not os.access(path, os.R_OK):
        raise ValueError(f"{argument} must be readable, but {str(path)!r} is not: its permissions forbid it")
    if path.stat().st_size == 0:
        raise ValueError(f"{argument} must hold {content}, but {str(path)!r} is empty")


def require_regular(path: Path) -> None:
    """Raise ValueError where there is no file, or something else, such as a pipe, which would wait for a writer."""
    if not path.exists():
        raise ValueError("there is no such file")
    if not path.is_file():
        raise ValueError("it is not a regular file")


def matching_files(argument: str, pattern: str) -> list[Path]:
    """Return the files that a path or a glob (`**` goes through folders) names; ValueError for none, or a folder."""
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


def folder_of(argument: str, folder: str) -> Path:
    """Return the path of a folder, as a user types it; ValueError if there is none."""
    expanded = os.path.expanduser(folder)
    if not os.path.isdir(expanded):  # unlike Path.is_dir, it is False for a name that is too long
        folders = [path for path in neighbours(folder) if os.path.isdir(os.path.expanduser(path))]
        raise ValueError(f"{argument} must be a folder, got {folder!r}{nearest(folder, folders)}")
    return Path(expanded)

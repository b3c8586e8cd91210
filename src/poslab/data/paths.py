"""Paths and globs as users type them, and the files that they name."""

import csv
import glob
import os
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from poslab.arguments import nearest

TABLES = {".csv": ",", ".tsv": "\t"}
"""The separator of the cells of a table, by its suffix."""


def neighbours(path: str) -> list[str]:
    """Return the other paths beside a path that are not hidden, spelled as the path is."""
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


def require_plain_name(argument: str, name: str) -> None:
    """Raise ValueError for a name that no table, report or line of a log can hold.

    It is not Unicode, or has a control character or a separator of lines, such as a line feed.
    """
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"{argument} must hold names in UTF-8, got {name!r}") from error
    if any(unicodedata.category(character) in ("Cc", "Zl", "Zp") for character in name):
        raise ValueError(f"{argument} must hold names without control characters, got {name!r}")


def files_of_classes(argument: str, folder: str, suffixes: Sequence[str], content: str) -> list[Path]:
    """Return the files in the folders of a folder, one of each class, class by class, in order of their paths.

    Args:
        argument: name of the argument that names the folder, for messages.
        folder: as a user types it.
        suffixes: of the files, in small letters; others, and hidden ones, are not read.
        content: what files hold, for messages.

    Raises:
        ValueError: for fewer than two classes, one without files, one with a folder, a link that leads nowhere, two
            classes whose names look alike, and for names as `require_plain_name` says.
    """
    classes = [one for one in _shown(argument, folder_of(argument, folder), content) if one.is_dir()]
    if len(classes) < 2:
        what = f"a folder for each class, at least two, but {folder!r} holds {len(classes)}"
        raise ValueError(f"{argument} must hold {what}")
    files: list[Path] = []
    seen: dict[str, str] = {}
    for one in classes:
        require_plain_name(argument, one.name)
        if (alike := seen.setdefault(unicodedata.normalize("NFC", one.name.strip()), one.name)) != one.name:
            raise ValueError(
                f"{argument} must hold classes of different names, but {alike!a} and {one.name!a} look alike"
            )
        entries = _shown(argument, one, content)
        for path in entries:
            if path.is_dir():
                raise ValueError(
                    f"{argument} must hold {content} in one folder for each class, but {str(path)!r} is a folder in one"
                )
        own = [path for path in entries if path.suffix.lower() in suffixes and path.is_file()]
        if not own:
            what = f"{content} ({', '.join(suffixes)}) in the folder of each class, but {str(one)!r} has none"
            raise ValueError(f"{argument} must hold {what}")
        files += own
    return files


def labelled_files(argument: str, path: str, suffixes: Sequence[str], content: str) -> list[tuple[Path, str]]:
    """Return the files that a table or a folder holds, each with its class.

    A table is CSV or TSV with the columns `file`, a path that starts at the folder of the table, and `label`; a folder
    has a folder for each class.

    Args:
        argument, suffixes, content: as of `files_of_classes`.
        path: of the table or the folder, as a user types it.

    Raises:
        ValueError: one sentence that begins with `argument`, for fewer than two classes, or a file that is not there or
            has another suffix; others as of `files_of_classes`.
    """
    if Path(path).suffix.lower() not in TABLES or os.path.isdir(os.path.expanduser(path)):
        return [(file, file.parent.name) for file in files_of_classes(argument, path, suffixes, content)]
    source, *_ = matching_files(argument, path)
    require_content(argument, source, "files with their classes")
    files = []
    try:
        with source.open(encoding="utf-8-sig", newline="") as opened:
            reader = csv.DictReader(opened, delimiter=TABLES[source.suffix.lower()], strict=True)
            rows = [(f"{str(source)!r} line {reader.line_num}", row) for row in reader]
    except (csv.Error, UnicodeDecodeError) as error:
        raise ValueError(f"{argument} must hold CSV in UTF-8, but {str(source)!r} does not: {error}") from error
    for place, row in rows:
        name, label = ((row.get(column) or "").strip() for column in ("file", "label"))
        if not name or not label:
            raise ValueError(f"{argument} must have the columns file and label, but {place} has not both")
        require_plain_name(argument, label)
        file = source.parent / Path(name).expanduser()
        is_there = os.path.isfile(file)  # that of a path raises OSError for a name that is too long
        if file.suffix.lower() not in suffixes or not is_there:
            reason = "of another kind" if is_there else "which is not there"
            named = f"{content} ({', '.join(suffixes)})"
            raise ValueError(f"{argument} must name {named}, but {place} names {str(file)[:300]!r}, {reason}")
        files.append((file, label))
    if len({label for _, label in files}) < 2:
        raise ValueError(f"{argument} must have at least two classes, but {str(source)!r} has fewer")
    return files


def require_one_class(
    argument: str, files: Sequence[tuple[Path, str]], fingerprints: Sequence[str], content: str
) -> None:
    """Raise ValueError for equal files of two classes, of which only one can be right.

    Args:
        argument, content: as of `files_of_classes`.
        files: each with its class.
        fingerprints: of what each holds.
    """
    first: dict[str, tuple[Path, str]] = {}
    for (file, label), fingerprint in zip(files, fingerprints, strict=True):
        earlier, other = first.setdefault(fingerprint, (file, label))
        if other != label:
            raise ValueError(
                f"{argument} must hold {content} of one class each, but {str(earlier)!r} and {str(file)!r} are equal: "
                "delete one, or keep both with dataset.deduplicate=false"
            )


def _shown(argument: str, folder: Path, content: str) -> list[Path]:
    """Return what a folder holds and does not hide, in order of the names.

    Raises:
        ValueError: if it cannot be read, or has a link that leads nowhere.
    """
    try:
        shown = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
        nowhere = [path for path in shown if path.is_symlink() and not path.exists()]
    except OSError as error:
        raise ValueError(f"{argument} must be readable, but {str(folder)!r} is not: {error.strerror}") from error
    if nowhere:
        raise ValueError(f"{argument} must hold {content}, but {str(nowhere[0])!r} is a link that leads nowhere")
    return shown

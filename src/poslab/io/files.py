"""Bounded reading of files that someone else may have written, whole writing of files, and locks."""

from __future__ import annotations

import contextlib
import fcntl
import glob
import importlib.util
import io
import json
import os
import re
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

import yaml
from omegaconf import OmegaConf

from poslab.arguments import nearest, shown

PACKAGE = "package:"  # the beginning of a path in a package, such as `package:some_package/folder`


class NotInstalledError(ValueError):
    """Data or a package that a dataset needs is not installed on this machine; the settings may be right."""


def package_folder(name: str) -> Path | None:
    """Return the folder of an installed package by its name in Python; None if it is not installed."""
    spec = importlib.util.find_spec(name)
    places = None if spec is None else spec.submodule_search_locations
    return Path(next(iter(places))) if places else None


def in_package(path: str) -> str:
    """Return a path with the folder of the package that it starts with; any other path unchanged.

    NotInstalledError, starting with `path`, if the package is not installed.
    """
    if not path.startswith(PACKAGE):
        return path
    name, _, rest = path.removeprefix(PACKAGE).partition("/")
    folder = package_folder(name) if name.isidentifier() else None
    if folder is None:
        distribution = name.replace("_", "-")
        raise NotInstalledError(f"path={path} needs the package {distribution}: pip install --no-deps {distribution}")
    return str(folder / rest)


MAX_YAML = 200_000  # most bytes of a configuration; a Poslab one has about 5,000
MAX_JSON = 100_000_000  # most bytes of a JSON file; 100,000 names of classes need about 2,000,000
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""Reads five times faster where PyYAML was built with libyaml."""
NUMBER = re.compile(r"[-+]?[\da-fxo_.:]+", re.IGNORECASE)
"""Number in any base of YAML, 60 included, whose reading takes time quadratic in its digits."""
LONGEST = 1000  # most characters of a number or an interpolation in YAML
DEEPEST = 32  # most levels of a YAML file; a Poslab configuration has about 6


def read_yaml(path: Path) -> dict[str, Any]:
    """Read the keys and values of a YAML file, as Hydra does, with interpolations left as text.

    ValueError, naming the file, if it cannot be read, does not contain keys and values, is larger than 200 kB, is
    nested more than 32 deep or uses aliases, a few of which can represent terabytes.
    """
    text = read_text(path, MAX_YAML)
    try:
        reason = _too_much(text)
        node = None if reason else OmegaConf.to_container(OmegaConf.load(io.StringIO(text)))  # 1e-3 is a number to it
    except yaml.MarkedYAMLError as error:
        line = "" if error.problem_mark is None else f", line {error.problem_mark.line + 1}"
        raise ValueError(f"{path}{line} is not YAML: {error.problem}") from error
    except Exception as error:  # anything that YAML's constructors and OmegaConf's interpolations raise
        raise ValueError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    if reason:
        raise ValueError(f"{path} {reason}")
    if not isinstance(node, dict):
        raise ValueError(f"{path} must contain keys and values")
    return {str(key): value for key, value in node.items()}


def _too_much(text: str) -> str:
    """Return the reason not to build YAML, found before it is built; "" if there is none."""
    depth = 0
    for event in yaml.parse(text, Loader=LOADER):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if isinstance(event, yaml.AliasEvent):
            return f"must not use aliases, got *{event.anchor}"
        if isinstance(event, yaml.ScalarEvent) and len(event.value) > LONGEST:
            if NUMBER.fullmatch(event.value):
                return "must not have a number of more than 1,000 digits"
            if "${" in event.value:
                return "must not have an interpolation of more than 1,000 characters"
        if isinstance(event, yaml.ScalarEvent) and event.value.count("${") > DEEPEST:
            return f"must not have more than {DEEPEST} interpolations in one value"
        if depth > DEEPEST:
            return f"must not be nested more than {DEEPEST} deep"
    return ""


def read_json(path: Path, most: int = MAX_JSON) -> dict[str, Any]:
    """Read a JSON file of one object; ValueError, naming the file, for another or one of more than `most` bytes."""
    text = read_text(path, most)
    try:
        node = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is damaged: it is not JSON") from error
    if not isinstance(node, dict):
        raise ValueError(f"{path} must contain an object, got {type(node).__name__}")
    return node


def read_text(path: Path, most: int = MAX_YAML) -> str:
    """Read a text file of at most `most` bytes; ValueError, naming the file, if it cannot be read or is another."""
    try:
        return read_bytes(path, most).decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 text") from error


def read_bytes(path: Path, most: int) -> bytes:
    """Read a file of at most `most` bytes; ValueError, naming the file, if it cannot be read or is longer."""
    if path.exists() and not path.is_file():  # a pipe waits for a writer, and a device may not end
        raise ValueError(f"{path} cannot be read: it is not a regular file")
    try:
        with path.open("rb") as file:
            content = file.read(most + 1)
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from error
    if len(content) > most:
        raise ValueError(f"{path} must be at most {most:,} bytes long, and is longer")
    return content


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
    """Raise ValueError if a folder contains anything but files and folders, at any depth.

    A symbolic link in an untrusted folder can make a program write to, or read, a file anywhere. The folder itself may
    be reached through a link, which belongs to its user.
    """
    waiting = [str(folder)]
    while waiting:
        parent = waiting.pop()
        try:
            with os.scandir(parent) as scanned:
                entries = list(scanned)
        except FileNotFoundError:  # it has vanished
            continue
        except OSError as error:
            raise ValueError(f"{parent} cannot be read: {error.strerror}") from error
        for entry in entries:
            if entry.is_symlink():
                raise ValueError(
                    f"{folder} must have no symbolic links, which could lead to any file, and {entry.path} is one: put "
                    "what it points to in its place, or move the whole folder and link that"
                )
            if entry.is_dir(follow_symlinks=False):
                waiting.append(entry.path)
            elif not entry.is_file(follow_symlinks=False):
                raise ValueError(f"{folder} must contain only files and folders, and {entry.path} is neither")


def lock(file: Any) -> None:
    """Wait for the lock of an open file, which ends as the file is closed; without one where the disk has no locks."""
    with suppress(OSError):
        fcntl.flock(file, fcntl.LOCK_EX)


def lock_at_once(file: Any) -> bool:
    """Lock an open file until it is closed, unless another process has; return True too if the disk has no locks."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        pass
    return True


@contextmanager
def locked_folder(folder: Path) -> Iterator[None]:
    """Hold the lock of a folder, in which nothing is written for it."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        lock(descriptor)
        yield
    finally:
        os.close(descriptor)


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
        raise ValueError(f"{argument} must be a path, a glob or a list of them, got {shown(files)}")
    return list(patterns)


def files_of(argument: str, patterns: Sequence[str]) -> list[Path]:
    """Return the files that patterns name, each once, in order of their paths; errors as of `matching_files`."""
    return sorted({path for pattern in patterns for path in matching_files(argument, pattern)})


def require_content(argument: str, path: Path, content: str) -> None:
    """Raise ValueError for a file that cannot be read, or is empty instead of holding `content`."""
    if not os.access(path, os.R_OK):
        raise ValueError(f"{argument} must be readable, but {str(path)!r} is not: its permissions forbid it")
    if path.stat().st_size == 0:
        raise ValueError(f"{argument} must contain {content}, but {str(path)!r} is empty")


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

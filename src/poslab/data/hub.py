"""What goes wrong with `datasets.load_dataset`, told in one sentence that begins with the argument to change."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from poslab.configuration import nearest
from poslab.data.paths import matching_files

FORMATS = ("json", "parquet", "text", "csv")


def check_data_files(path: str, data_files: Any) -> None:
    """Raises ValueError if `path` is a format, and its files are not named or do not exist."""
    if path in FORMATS:
        if not data_files:
            raise ValueError(f"data_files must name the files that path={path} reads, got {data_files!r}")
        for pattern in _patterns(data_files):
            if "://" not in pattern:
                matching_files("data_files", pattern)


def require_split(argument: str, split: str, available: Iterable[str]) -> None:
    """Raises ValueError if a data set has no split of this name.

    Args:
        argument: name of the argument that names the split.
        split: what the user typed.
        available: names of the splits that there are.
    """
    names = list(available)
    if split not in names:
        raise ValueError(f"{argument} must be one of {', '.join(names)}, got {split!r}{nearest(split, names)}")


def require_column(argument: str, column: str, available: Iterable[str]) -> None:
    """Raises ValueError if a data set has no column of this name; arguments as for `require_split`."""
    names = list(available)
    if column not in names:
        raise ValueError(f"{argument} must be one of {', '.join(names)}, got {column!r}{nearest(column, names)}")


@contextmanager
def library_errors(path: str | None, name: str | None, data_files: Any) -> Iterator[None]:
    """Turn what `datasets` raises for a wrong name or a missing connection into a ValueError.

    Args: what `load_dataset` is given.
    """
    from datasets.exceptions import DatasetNotFoundError, DatasetsError

    files = "path" if data_files is None else "data_files"
    try:
        yield
    except DatasetNotFoundError as error:
        raise ValueError(f"path names no data set that can be read: {_one_line(error)}") from error
    except ConnectionError as error:
        raise ValueError(f"path {path!r} cannot be reached on the Hugging Face Hub: {_one_line(error)}") from error
    except FileNotFoundError as error:
        raise ValueError(f"{files} names nothing that can be read: {_one_line(error)}") from error
    except DatasetsError as error:
        raise ValueError(f"{files} cannot be read: {_one_line(error.__cause__ or error)}") from error
    except ValueError as error:
        raise ValueError(f"name {name!r} does not fit {path!r}: {_one_line(error)}") from error
    except RuntimeError as error:  # a data set that only a script of its own can read
        raise ValueError(f"path {path!r} cannot be read: {_one_line(error)}") from error


def _patterns(data_files: Any) -> list[str]:
    """All paths and globs in what `load_dataset` takes as `data_files`."""
    if isinstance(data_files, str):
        return [data_files]
    values = data_files.values() if isinstance(data_files, Mapping) else data_files
    if not isinstance(values, Iterable):
        raise ValueError(f"data_files must name files by a path, a glob, a list or a mapping, got {values!r}")
    return [pattern for value in values for pattern in _patterns(value)]


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())

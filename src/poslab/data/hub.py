"""Data sets that the library `datasets` loads, with errors of one sentence that starts with the argument to change."""

import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from poslab.arguments import nearest
from poslab.data import cache
from poslab.data.source import PreparedSource, require_text
from poslab.io.files import matching_files, read_json
from poslab.io.terminal import one_line

if TYPE_CHECKING:
    from datasets import DatasetBuilder

FORMATS = ("json", "parquet", "text", "csv", "imagefolder", "audiofolder")
"""Formats of files that are read; `datasets` has others, some of which could run code, or reach any server."""

NAME_ON_HUB = re.compile(r"[\w.-]+/[\w.-]+")


@dataclass(frozen=True)
class HubRows:
    """The rows of a data set, by split, kept in Poslab's own folder: the library never verifies its own."""

    cache: Path
    # path, name, data_files, revision, options: as of `load_dataset`
    path: str | None
    name: str | None
    data_files: str | Sequence[str] | Mapping[str, Any] | None
    revision: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    argument: str | None = None  # begins messages about files; None: `path` or `data_files`

    @cached_property
    def identity(self) -> list[str | None]:
        """Strings of which one changes whenever the rows do."""
        # The first two change with the revision on the Hub, or with local files.
        return [self._builder.config_id, self._builder.hash, self.path, self.name, self.revision]

    def load(self, split: str | None = None) -> Any:
        """Return all splits, or one such as `train[:10%]`."""
        from datasets import DownloadConfig

        folder = self.cache / f"rows-{cache.key({'source': self.identity})}"
        if not cache.verify_or_discard(folder):
            with cache.new_folder(folder) as temporary, self._errors():
                downloads, rows = temporary / "downloads", temporary / "rows"
                self._builder.download_and_prepare(str(rows), DownloadConfig(cache_dir=str(downloads)))
                shutil.rmtree(downloads, ignore_errors=True)
                for lock in temporary.glob("*.lock"):
                    lock.unlink()
        with self._errors():
            self._builder.download_and_prepare(str(folder / "rows"))
            if not any(rows.num_examples for rows in self._builder.info.splits.values()):
                raise ValueError("it has no row")
            return self._builder.as_dataset(split)

    def stream(self) -> Any:
        """Return all splits, read from their source each time."""
        with self._errors():
            return self._builder.as_streaming_dataset()

    @cached_property
    def _builder(self) -> "DatasetBuilder":
        from datasets import config, load_dataset_builder

        config.HF_UPDATE_DOWNLOAD_COUNTS = False  # it would report every reading of a local file to a server
        path, data_files = self.path, self.data_files
        if path is not None and os.path.isdir(os.path.expanduser(path)):
            path = os.path.expanduser(path)
        if path is not None and data_files is None and (saved := _saved_files(path)):
            path, data_files = "arrow", saved
        arguments = {"data_files": data_files, "revision": self.revision, "cache_dir": str(self.cache / "locks")}
        with self._errors():
            builder = load_dataset_builder(path, self.name, **arguments, **self.options)
            kind = type(builder).__module__.rpartition(".")[2]
            if kind not in (*FORMATS, "arrow"):  # of a folder, or on the Hub
                raise RuntimeError(f"it has files of {kind}, and not of {', '.join(FORMATS)}")
            return builder

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Raise what `datasets` raises for a wrong name or a missing connection as a ValueError."""
        from datasets.exceptions import DatasetNotFoundError, DatasetsError

        files = self.argument or ("path" if self.data_files is None else "data_files")
        wrong = f"{files} cannot be read"
        try:
            yield
        except Exception as error:
            reason = one_line(str(error)) or type(error).__name__
            if isinstance(error, DatasetNotFoundError):
                wrong = "path names no data set that can be read"
            elif isinstance(error, ConnectionError):
                wrong = f"path {self.path!r} cannot be reached on the Hugging Face Hub"
            elif isinstance(error, FileNotFoundError):
                wrong = f"{files} names nothing that can be read"
            elif isinstance(error, DatasetsError):
                reason = one_line(str(error.__cause__ or error))
            elif isinstance(error, ValueError):
                wrong = wrong if self.name is None else f"name {self.name!r} does not fit {self.path!r}"
            elif self.argument is None:  # a protocol may need a package, and has its own errors
                argument = "path" if isinstance(error, RuntimeError) else files
                wrong = f"{argument} {getattr(self, argument)!r} cannot be read"
            raise ValueError(f"{wrong}: {reason}") from error


class HubSource(PreparedSource):
    """A source by the name of its data set on the Hub, or in local files of a format that `load_dataset` reads.

    It comes last among several bases, whose defaults count rather than `PreparedSource`'s.

    Args:
        path: as of `load_dataset`: `owner/name` on the Hub, one of `FORMATS`, or a folder of such files; or a folder of
            `save_to_disk`, where a data set without splits is `train`.
        name: configuration of the data set, where it has several.
        data_files: files of a format, or by split: a path, a glob, a list, or a mapping from split to these.
        revision: a branch, tag or commit on the Hub; None: the newest. `refs/convert/parquet` has the rows of many data
            sets whose owners offer only a script, which `load_dataset` no longer runs.
        train_split: name of the training split (default `train`).
        validation_split, test_split: names of held-out splits; None holds out a share of the training split.
    """

    path: str | None = None
    name: str | None = None
    data_files: str | Sequence[str] | Mapping[str, Any] | None = None
    revision: str | None = None
    train_split: str = "train"
    validation_split: str | None = None
    test_split: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        for argument in ("path", "train_split"):
            require_text(argument, getattr(self, argument))
        for argument in ("name", "revision", "validation_split", "test_split"):
            if getattr(self, argument) is not None:
                require_text(argument, getattr(self, argument))

    @property
    def splits(self) -> dict[str, str]:
        """The names of the given splits, by argument."""
        arguments = ("train_split", "validation_split", "test_split")
        return {argument: split for argument in arguments if (split := getattr(self, argument)) is not None}

    @cached_property
    def _kept_rows(self) -> HubRows:
        return HubRows(self.cache, self.path, self.name, self.data_files, self.revision)

    @cached_property
    def _source(self) -> Any:
        return self._kept_rows.load()

    def check(self) -> None:
        super().check()
        if self.path in FORMATS:
            if not self.data_files:
                raise ValueError(f"data_files must name the files that path={self.path} reads, got {self.data_files!r}")
            for pattern in _patterns(self.data_files):
                if not is_remote(pattern):
                    matching_files("data_files", pattern)
        elif is_remote(str(self.path)) or not (
            os.path.isdir(os.path.expanduser(str(self.path))) or NAME_ON_HUB.fullmatch(str(self.path))
        ):
            choices = f"owner/name on the Hub, a folder, or one of {', '.join(FORMATS)}"
            raise ValueError(f"path must be {choices}, got {self.path!r}{nearest(str(self.path), FORMATS)}")

    def reaches(self) -> list[str]:
        remote = [
            f"read dataset.data_files={pattern}" for pattern in _patterns(self.data_files or ()) if is_remote(pattern)
        ]
        if self.path not in FORMATS:
            folder = os.path.expanduser(str(self.path))
            names_files = any(os.path.isfile(os.path.join(folder, name)) for name in ("README.md", ".huggingface.yaml"))
            if not os.path.isdir(folder):
                remote.append(f"read dataset.path={self.path} from the Hugging Face Hub")
            elif names_files and not _saved_files(folder):
                remote.append(f"read dataset.path={folder}, whose README.md may name files of any server,")
        return [*remote, *super().reaches()]


def _saved_files(path: str) -> dict[str, list[str]]:
    """Return the files of each split that `save_to_disk` wrote into a folder; none for any other path."""
    folder = os.path.expanduser(path)
    try:
        if os.path.isfile(os.path.join(folder, "dataset_dict.json")):
            splits = read_json(Path(folder, "dataset_dict.json"))["splits"]
            folders = {split: Path(folder, split) for split in splits}
        else:
            folders = {"train": Path(folder)} if os.path.isfile(os.path.join(folder, "state.json")) else {}
        return {
            split: [str(of_split / file["filename"]) for file in read_json(of_split / "state.json")["_data_files"]]
            for split, of_split in folders.items()
        }
    except (LookupError, TypeError) as error:
        raise ValueError(f"path must have what save_to_disk wrote, but {path!r} names no files of its rows") from error
    except ValueError as error:
        raise ValueError(f"path must contain what save_to_disk wrote, but {error}") from error


def _patterns(data_files: Any) -> list[str]:
    """Return all paths and globs in the `data_files` of `load_dataset`."""
    if isinstance(data_files, str):
        return [data_files]
    values = data_files.values() if isinstance(data_files, Mapping) else data_files
    if not isinstance(values, Iterable):
        raise ValueError(f"data_files must name files by a path, a glob, a list or a mapping, got {values!r}")
    return [pattern for value in values for pattern in _patterns(value)]


def is_remote(pattern: str) -> bool:
    """Return whether `datasets` takes a path or glob for an address, such as `zip://a.csv::http://server/b.zip`."""
    return "://" in pattern or "::" in pattern

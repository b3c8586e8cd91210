"""A user's own pictures, in one folder for each class or named by a table."""

from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np

from poslab.data.examples.columns import Splits, as_examples
from poslab.data.examples.fingerprint import fingerprint
from poslab.data.examples.table_files import labelled_files
from poslab.data.paths import require_content, require_one_class
from poslab.data.pictures.reading import SUFFIXES, channels_of, read_picture
from poslab.data.pictures.source import PictureSource
from poslab.data.source import require_text


class PictureFolder(PictureSource):
    """PNG, JPEG, GIF and WebP files in one folder for each class, which has its name, or in a table.

    They are grey if all files are, else in colour; transparent places become white, and of an animation the first
    picture counts. Equal files of a class are one. Links are followed.

    Args:
        path: folder that holds the folders of the classes, or a CSV file with the columns `file` and `label`, whose
            paths start at its own folder.
        others: those of `PictureSource`.
    """

    path: str | None = None

    title = "pictures"

    def __post_init__(self) -> None:
        super().__post_init__()
        require_text("path", self.path)

    def check(self) -> None:
        super().check()
        for path, _ in self._files:
            require_content("path", path, "pictures")

    @cached_property
    def identity(self) -> str:
        return fingerprint(*self._paths_and_labels)

    @cached_property
    def channels(self) -> int:
        return channels_of(self._paths_and_labels[0])

    def examples(self) -> Splits:
        paths, labels = self._paths_and_labels
        contents = [fingerprint([path]) for path in paths]
        if self.deduplicate:
            require_one_class("path", self._files, contents, "pictures")
        return {"train": as_examples(content=contents, label=labels, number=list(range(len(paths))))}

    def arrays(self, numbers: Sequence[int], side: int) -> Iterator[np.ndarray]:
        for number in numbers:
            yield self.at_side(read_picture("path", self._files[number][0], self.channels), side)

    @cached_property
    def _files(self) -> list[tuple[Path, str]]:
        """The pictures, each with its class; errors are those of `labelled_files`."""
        assert self.path is not None
        return labelled_files("path", self.path, SUFFIXES, "pictures")

    @property
    def _paths_and_labels(self) -> tuple[list[Path], list[str]]:
        return [path for path, _ in self._files], [label for _, label in self._files]

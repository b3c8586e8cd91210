"""A user's own pictures, in one folder for each class."""

from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np

from poslab.data.examples.columns import Splits, as_examples
from poslab.data.examples.fingerprint import fingerprint
from poslab.data.paths import files_of_classes, require_content, require_one_class
from poslab.data.pictures.reading import SUFFIXES, channels_of, read_picture
from poslab.data.pictures.source import PictureSource
from poslab.data.source import require_text


class PictureFolder(PictureSource):
    """PNG, JPEG, GIF and WebP files in one folder for each class, which has its name.

    They are grey if all files are, else in colour; transparent places become white, and of an animation the first
    picture counts. Equal files of a class are one. Links are followed.

    Args:
        path: folder that holds the folders of the classes.
        others: those of `PictureSource`.
    """

    path: str | None = None

    title = "pictures"

    def __post_init__(self) -> None:
        super().__post_init__()
        require_text("path", self.path)

    def check(self) -> None:
        super().check()
        for path in self._files:
            require_content("path", path, "pictures")

    @cached_property
    def identity(self) -> str:
        return fingerprint(self._files, [path.parent.name for path in self._files])

    @cached_property
    def channels(self) -> int:
        return channels_of(self._files)

    def examples(self) -> Splits:
        contents = [fingerprint([path]) for path in self._files]
        if self.deduplicate:
            require_one_class("path", self._files, contents, "pictures")
        return {
            "train": as_examples(
                content=contents,
                label=[path.parent.name for path in self._files],
                number=list(range(len(self._files))),
            )
        }

    def arrays(self, numbers: Sequence[int], side: int) -> Iterator[np.ndarray]:
        for number in numbers:
            yield self.at_side(read_picture("path", self._files[number], self.channels), side)

    @cached_property
    def _files(self) -> list[Path]:
        """The pictures of all classes, in order of their paths; ValueError for a class without one."""
        assert self.path is not None
        return files_of_classes("path", self.path, SUFFIXES, "pictures")

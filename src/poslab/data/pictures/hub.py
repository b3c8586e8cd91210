"""Pictures and their classes, from the Hugging Face Hub."""

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from poslab.data.patched.hub import HubArrays
from poslab.data.pictures.reading import channels_of, read_picture
from poslab.data.pictures.source import PictureSource


class HubPictures(PictureSource, HubArrays):
    """PNG, JPEG, GIF and WebP files in the rows of a data set on the Hub, and a column of their classes.

    They are read as those of `PictureFolder` are.

    Args:
        image: the column of the pictures (default `image`).
        others: those of `PictureSource` and `HubArrays`.
    """

    image: str = "image"

    title = "hub_pictures"
    file_argument = "image"

    @property
    def file_type(self) -> Any:
        from datasets import Image

        return Image(decode=False)

    @cached_property
    def channels(self) -> int:
        return channels_of(file for split in self.examples().values() for file, _ in self.files(split["number"]))

    def arrays(self, numbers: Sequence[int], side: int) -> Iterator[np.ndarray]:
        for file, name in self.files(numbers):
            yield self.at_side(read_picture(self.file_argument, file, self.channels, name), side)

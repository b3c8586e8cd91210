"""Pictures with captions, and a user's own."""

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, NamedTuple

import numpy as np

from poslab.arguments import Count
from poslab.data.bounds import require_integer
from poslab.data.examples.columns import Splits, as_examples
from poslab.data.examples.fingerprint import fingerprint
from poslab.data.examples.normal_form import normal_form
from poslab.data.kinds.captions import CAPTIONS, Captions
from poslab.data.paths import folder_of, require_content
from poslab.data.pictures.reading import SUFFIXES, channels_of, read_picture
from poslab.data.pictures.source import PictureSource
from poslab.data.source import Source, VocabSize, require_text
from poslab.io.files import read_text

if TYPE_CHECKING:
    from poslab.data.pictures.caption_splits import CaptionSplits


class Captioned(NamedTuple):
    """A file of a picture, and its caption."""

    path: Path
    caption: str


class CaptionSource(PictureSource, Source):
    """A source of pictures in files, each with a caption.

    No two splits share a picture or a caption, whatever its case and punctuation.

    Args:
        side: as in `PictureSource` (default 64).
        patch: as there (default 8).
        caption_length: the most tokens of a caption, its end included, at least 2; a longer one is cut (default 32).
        sequence_length: at least the patches of a training picture and `caption_length`.
        grid: times (1), rows and columns of a training picture; None is those of a square one.
        tokenizer, vocab_size: of the captions, as in `Source` (default `bpe`, of 512 tokens).
        others: those of `PictureSource`.
    """

    batch_size: Count = 32
    side: int = 64
    sides: Sequence[int] = (32, 64, 128)
    patch: int = 8
    caption_length: int = 32
    tokenizer: str = "bpe"
    vocab_size: VocabSize = 512

    kind: ClassVar[Captions] = CAPTIONS
    axes = ("time", "height", "width")

    argument: ClassVar[str]
    """The argument that names the files, for messages."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_integer("caption_length", self.caption_length, least=2)

    def check(self) -> None:
        super().check()
        for path, _ in self.captioned:
            require_content(self.argument, path, "pictures")

    def open(self, joined: bool = False) -> "CaptionSplits":
        from poslab.data.pictures.caption_splits import CaptionSplits

        return CaptionSplits(self)

    @property
    @abstractmethod
    def captioned(self) -> list[Captioned]:
        """The pictures and their captions, in order of their paths.

        Raises:
            ValueError: one sentence that begins with the argument to change, if there are none.
        """

    @cached_property
    def identity(self) -> str:
        return fingerprint(self._paths, [caption for _, caption in self.captioned])

    @cached_property
    def channels(self) -> int:
        return channels_of(self._paths)

    def tokens_at(self, side: int) -> int:
        return self.patches_at(side) + self.caption_length

    def cells_at(self, side: int) -> list[int]:
        return [1, *super().cells_at(side)]

    def examples(self) -> Splits:
        captions = [caption for _, caption in self.captioned]
        return {
            "train": as_examples(
                content=[fingerprint([path]) for path in self._paths],
                label=captions,
                number=list(range(len(captions))),
                document=list(map(normal_form, captions)),
            )
        }

    def arrays(self, numbers: Sequence[int], side: int) -> Iterator[np.ndarray]:
        for number in numbers:
            yield self.at_side(read_picture(self.argument, self._paths[number], self.channels), side)

    @property
    def _paths(self) -> list[Path]:
        return [path for path, _ in self.captioned]


class CaptionFolder(CaptionSource):
    """PNG, JPEG, GIF and WebP files in a folder and those below it, each with its caption in a text file beside it.

    The caption of `ship.png` is the first line of `ship.txt`. Hidden files and folders do not count.

    Args:
        path: of the folder.
        others: those of `CaptionSource`.
    """

    path: str | None = None

    title = "captions"
    argument = "path"

    def __post_init__(self) -> None:
        super().__post_init__()
        require_text("path", self.path)

    @cached_property
    def captioned(self) -> list[Captioned]:
        assert self.path is not None
        captioned = []
        for path in pictures_below("path", self.path):
            beside = path.with_suffix(".txt")
            if not beside.is_file():
                what = f"the caption of each picture in a text file beside it, but there is no {str(beside)!r}"
                raise ValueError(f"path must hold {what}")
            caption = in_words(lines_of("path", beside)[0])
            if not caption:
                raise ValueError(f"path must hold captions, but the first line of {str(beside)!r} is empty")
            captioned.append(Captioned(path, caption))
        return captioned


def pictures_below(argument: str, folder: str) -> list[Path]:
    """Return the pictures in a folder and those below it, in order of their paths; ValueError if there are none."""
    place = folder_of(argument, folder)
    found = (path for path in place.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    pictures = sorted(path for path in found if not any(part[0] == "." for part in path.relative_to(place).parts))
    if not pictures:
        raise ValueError(f"{argument} must hold pictures ({', '.join(SUFFIXES)}), but {folder!r} has none")
    return pictures


def lines_of(argument: str, path: Path) -> list[str]:
    """Return the lines of a small file of UTF-8, at least one, which may be empty.

    Raises:
        ValueError: beginning with `argument`, if it is not one.
    """
    try:
        return read_text(path).removeprefix("\ufeff").splitlines() or [""]
    except ValueError as error:
        raise ValueError(f"{argument} must hold captions in UTF-8: {error}") from error


def in_words(text: str) -> str:
    """Return a caption with single spaces between its words."""
    return " ".join(text.split())

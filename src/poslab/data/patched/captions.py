"""Images with captions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Annotated, ClassVar

import numpy as np

from poslab.arguments import Count, Range
from poslab.data.cache import fingerprint
from poslab.data.columns import Splits, as_examples
from poslab.data.overlap import normal_form
from poslab.data.patched.arrays import CAPTIONS, CaptionKind
from poslab.data.patched.images import MAX_PIXELS, SUFFIXES, ImageSource, channels_of, read_image
from poslab.data.patched.source import ArrayBatches, PatchedSplits
from poslab.data.source import Collating, Source, VocabSize, require_text
from poslab.data.tokenizers import load_tokenizer
from poslab.io.files import folder_of, read_text, require_content


class CaptionFolder(ImageSource, Source):
    """PNG, JPEG, GIF and WebP files in a folder and those below it, each with its caption in a text file next to it.

    The caption of `ship.png` is the first line of `ship.txt`. Hidden files and folders do not count. No two splits
    share an image or a caption, whatever its case and punctuation.

    Args:
        caption_length: the most tokens of a caption, its end included, at least 2; a longer one is cut (default 32).
        sequence_length: at least the patches of a training image and `caption_length`.
        grid: times (1), rows and columns of a training image; None is a square one's.
        others: as in `ImageSource`, and of the captions as in `Source` (default `bpe`, of 512 tokens).
    """

    path: str | None = None
    batch_size: Count = 32
    side: Count = 64
    sides: Sequence[Count] = (32, 64, 128)
    patch: Annotated[int, Range(1, MAX_PIXELS)] = 8
    caption_length: Annotated[int, Range(2)] = 32
    tokenizer: str = "bpe"
    vocab_size: VocabSize = 512

    title = "captions"
    kind: ClassVar[CaptionKind] = CAPTIONS
    axes = ("time", "height", "width")

    def __post_init__(self) -> None:
        super().__post_init__()
        require_text("path", self.path)

    def check(self) -> None:
        super().check()
        for path in self.captions:
            require_content("path", path, "images")

    def open(self, joined: bool = False) -> CaptionSplits:
        return CaptionSplits(self)

    @cached_property
    def captions(self) -> dict[Path, str]:
        """The captions of images by their paths, in order of these."""
        assert self.path is not None
        folder = folder_of("path", self.path)
        files = (path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
        images = sorted(path for path in files if not any(part[0] == "." for part in path.relative_to(folder).parts))
        if not images:
            raise ValueError(f"path must contain images ({', '.join(SUFFIXES)}), but {self.path!r} has none")
        return {path: _caption_of(path) for path in images}

    @cached_property
    def identity(self) -> str:
        return fingerprint(self.captions, list(self.captions.values()))

    @cached_property
    def channels(self) -> int:
        return channels_of(self.captions)

    def tokens_at(self, side: int) -> int:
        return self.patches_at(side) + self.caption_length

    def cells_at(self, side: int) -> list[int]:
        return [1, *super().cells_at(side)]

    def examples(self) -> Splits:
        captions = list(self.captions.values())
        return {
            "train": as_examples(
                content=[fingerprint([path]) for path in self.captions],
                label=captions,
                number=list(range(len(captions))),
                document=list(map(normal_form, captions)),
            )
        }

    def arrays(self, numbers: Sequence[int], side: int) -> Iterator[np.ndarray]:
        paths = list(self.captions)
        for number in numbers:
            yield self.at_side(read_image("path", paths[number], self.channels), side)


def _caption_of(image: Path) -> str:
    """Return the caption of an image, with single spaces between its words."""
    file = image.with_suffix(".txt")
    if not file.is_file():
        raise ValueError(
            f"path must contain the caption of each image in a text file next to it, but there is no {str(file)!r}"
        )
    try:
        lines = read_text(file).removeprefix("\ufeff").splitlines() or [""]
    except ValueError as error:
        raise ValueError(f"path must contain captions in UTF-8: {error}") from error
    if not lines[0].strip():
        raise ValueError(f"path must contain captions, but the first line of {str(file)!r} is empty")
    return " ".join(lines[0].split())


class CaptionSplits(PatchedSplits):
    """Images and their captions; a length is a side, at which the test has all of its images.

    `captions` are the tokens of each caption, its end included, in the order of their numbers.
    """

    source: CaptionFolder

    def __init__(self, source: CaptionFolder) -> None:
        super().__init__(source)
        self.tokenizer = load_tokenizer(self.folder)
        whole = [self.tokenizer.encode(caption) for caption in self.facts.classes]
        most = source.caption_length - 1
        self.num_cut = sum(len(tokens) > most for tokens in whole)
        self.captions = [np.append(tokens[:most], self.tokenizer.end_id).astype(np.int64) for tokens in whole]

    def report_lines(self, max_length: int | None) -> list[str]:
        lines, source = super().report_lines(max_length), self.source
        cut = f", {self.num_cut:,} of them cut after {source.caption_length} tokens" if self.num_cut else ""
        captions = (
            f"{len(self.captions):,} different captions ({source.tokenizer}, {self.tokenizer.vocab_size:,} tokens){cut}"
        )
        return [*lines, captions]

    def _batches(self, split: str, length: int, task: Collating) -> ArrayBatches:
        return ArrayBatches(self.stored(split, length), self.source, self.captions, task.collate)

"""Arrays that are cut into patches, and their classes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from poslab.data.kinds.classes import CLASSES
from poslab.data.kinds.kind import Kind

if TYPE_CHECKING:
    from datasets import Dataset


class PatchedArrays(Kind):
    """Arrays, such as images, and their classes, in columns.

    `content` identifies an array: equal ones are the same, and never in two splits. `label` is its class, `number` its
    place in the source, and an optional `document` names what no two splits share, such as a font.
    """

    texts: ClassVar[tuple[str, ...]] = ("content",)
    read: ClassVar[tuple[str, ...]] = ("content",)
    stratify_by: ClassVar[str | None] = "label"

    def labels(self, splits: Mapping[str, Dataset]) -> list[str]:
        """Return the different labels of all splits, sorted; ValueError, beginning with `label`, for fewer than two."""
        return CLASSES.labels(splits).names


IMAGES = PatchedArrays("image")
SOUNDS = PatchedArrays("sound")
VIDEOS = PatchedArrays("video")

PIXELS = PatchedArrays("pixel")
"""Images of which each pixel is a token; classes are not read."""


class Captions(PatchedArrays):
    """Images and their captions, in the columns of `PatchedArrays`, whose `label` is the caption.

    An image may have several captions. No two splits share an image, or a caption: its `document` is the normal form
    of the caption.
    """

    texts = ("content", "label")
    stratify_by = None

    def labels(self, splits: Mapping[str, Dataset]) -> list[str]:
        """Return the different captions of all splits, sorted."""
        return sorted({caption for examples in splits.values() for caption in examples["label"]})


CAPTIONS = Captions("caption")

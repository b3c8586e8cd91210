"""Images and their captions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from poslab.data.kinds.patched import PatchedArrays

if TYPE_CHECKING:
    from datasets import Dataset


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

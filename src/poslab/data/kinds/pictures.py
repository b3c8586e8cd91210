"""Pictures and their classes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from poslab.data.kinds.classes import CLASSES
from poslab.data.kinds.kind import Kind

if TYPE_CHECKING:
    from datasets import Dataset


class Pictures(Kind):
    """Pictures and their classes, in columns.

    `picture` identifies a picture: equal ones are the same, and never in two splits. `label` is its class, `number` its
    place in the source, and an optional `document` names what no two splits share, such as a font.
    """

    texts: ClassVar[tuple[str, ...]] = ("picture",)
    read: ClassVar[tuple[str, ...]] = ("picture",)
    stratify_by: ClassVar[str | None] = "label"

    def labels(self, splits: Mapping[str, Dataset]) -> list[str]:
        """Return the different labels of all splits, sorted; ValueError, beginning with `label`, for fewer than two."""
        return CLASSES.labels(splits).names


PICTURES = Pictures("picture")

PIXELS = Pictures("pixel")
"""The same, where each pixel is a token; classes are not read."""

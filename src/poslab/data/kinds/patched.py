"""Arrays that are cut into patches, and their classes."""

from __future__ import annotations

from poslab.data.kinds.kind import Kind


class PatchedArrays(Kind):
    """Arrays, such as pictures, and their classes, in columns.

    `content` identifies an array: equal ones are the same, and never in two splits. `label` is its class, `number` its
    place in the source, and an optional `document` names what no two splits share, such as a font.
    """

    texts = read = ("content",)
    stratify_by = "label"


PICTURES = PatchedArrays("picture")
SOUNDS = PatchedArrays("sound")
VIDEOS = PatchedArrays("video")

"""Pictures and their classes."""

from __future__ import annotations

from poslab.data.kinds.kind import Kind


class Pictures(Kind):
    """Pictures and their classes, in columns.

    `picture` identifies a picture: equal ones are the same, and never in two splits. `label` is its class, `number` its
    place in the source, and an optional `document` names what no two splits share, such as a font.
    """

    texts = read = ("picture",)
    stratify_by = "label"


PICTURES = Pictures("picture")

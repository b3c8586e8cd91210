"""The base class of all datasets that a configuration can name; it imports nothing slow."""

from typing import ClassVar

from poslab.data.kinds.kind import Kind


class DataSource:
    """A source of text, of examples or of an algorithmic task."""

    kind: ClassVar[Kind]

"""The base of everything that a configuration can name as its dataset; it imports nothing slow."""

from typing import ClassVar

from poslab.data.kinds.kind import Kind


class DataSource:
    """A source of text, of examples or of an algorithmic task."""

    kind: ClassVar[Kind]
    """The kind of its data."""

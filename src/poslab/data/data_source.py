"""The base class of all datasets that a configuration can name; it imports nothing slow."""

from poslab.data.kinds.kind import Kind


class DataSource:
    """A source of text, of examples or of an algorithmic task."""

    @property
    def kind(self) -> Kind:
        """The kind of its data, by which its task is found."""
        raise NotImplementedError

"""The base of everything that a configuration can name as its dataset; it imports nothing."""


class DataSource:
    """A source of text, of examples or of an algorithmic task."""

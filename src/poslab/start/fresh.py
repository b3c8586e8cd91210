"""The encoding's own initial values."""

from poslab.start.base import Start


class Fresh(Start):
    """The encoding begins with its own initial values, the default."""

    needs_earlier = False

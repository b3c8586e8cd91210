"""Examples of algorithmic tasks."""

from poslab.data.kinds.kind import Kind

SYMBOLS = Kind("algorithmic")
"""An input and the one right answer to it, as symbols (`algorithmic.task.Example`)."""

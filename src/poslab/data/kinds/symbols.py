"""Examples of algorithmic tasks."""

from poslab.data.kinds.kind import Kind

SYMBOLS = Kind("algorithmic")
"""An input and the one right answer to it, as symbols (`algorithmic.task.Example`)."""

BLANKS = Kind("algorithmic with blanks")
"""The same, where symbols of the output belong in blanks of the input."""

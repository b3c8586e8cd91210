"""The values of rows of examples, as text."""

from typing import Any


def is_missing(value: Any) -> bool:
    """Return whether a cell is empty: nothing, blanks, or the `NaN` that pandas writes for it."""
    return value is None or value != value or (isinstance(value, str) and not value.strip())


def as_written(value: Any) -> str:
    """Return a value of JSON or Parquet as CSV has it; a whole number has no point, whatever its type is."""
    if isinstance(value, bool):
        return str(value).lower()
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def text_in(values: dict[str, Any], argument: str, column: str, place: str) -> str:
    """Return the text of a cell; ValueError if it is empty, or holds a list or an object.

    Args:
        values: a row, by column.
        argument, place: names of the argument of the column, and of the row, for messages.
        column: its name.
    """
    value = values.get(column)
    if is_missing(value):
        raise ValueError(f"{argument} must stand in every row, but {column!r} is empty in {place}")
    if isinstance(value, list | dict):
        raise ValueError(f"{argument} must hold text, but {column!r} in {place} is {str(value)[:40]}")
    return as_written(value)

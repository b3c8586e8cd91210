"""Checks of Arrow columns of prepared examples, whose files somebody else may have written."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pyarrow import ChunkedArray


def sizes(column: ChunkedArray) -> ChunkedArray:
    """Return the size of each list of a column."""
    from pyarrow import compute

    return compute.list_value_length(column)


def are_within(column: ChunkedArray, ends: Any) -> bool:
    """Return whether no number is missing, below 0, or not below its end.

    Args:
        column: a number for each example, a list of them, or a list of lists.
        ends: one for all examples, or one for each.
    """
    from pyarrow import compute

    while hasattr(column.type, "value_type"):
        if column.null_count:
            return False
        ends = ends if isinstance(ends, int) else ends.take(compute.list_parent_indices(column))
        column = compute.list_flatten(column)
    fit = compute.and_(compute.greater_equal(column, 0), compute.less(column, ends))
    return bool(compute.all(fit, skip_nulls=False).as_py())


def are_equal(column: ChunkedArray, other: Any) -> bool:
    """Return whether all values are equal and none is missing."""
    from pyarrow import compute

    return bool(compute.all(compute.equal(column, other), skip_nulls=False).as_py())


def are_among(column: ChunkedArray, names: Sequence[str]) -> bool:
    """Return whether all strings, one or a list for each example, are among these names."""
    from pyarrow import compute

    is_list = hasattr(column.type, "value_type")
    found = compute.unique(compute.list_flatten(column) if is_list else column).to_pylist()
    return not column.null_count and set(found) <= set(names)

"""Kinds of data, by which tasks are chosen; the kind of a table of examples is in the file of its sources."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from datasets import Dataset
    from pyarrow import ChunkedArray

    from poslab.data.tokenizers import Tokenizer

Rows = Mapping[str, Sequence[Any]]  # examples by column


@dataclass(frozen=True, eq=False)
class Kind:
    """A kind of data; two sources of one kind fit the same tasks.

    Args:
        name: in messages and in the settings of prepared data, such as `text`.
    """

    name: str

    texts: ClassVar[tuple[str, ...]] = ()
    """The columns by which two examples are the same; missing ones do not count."""

    read: ClassVar[tuple[str, ...]] = ()
    """The columns that a model reads. Examples of equal normal form (`overlap.normal_form`) are never in two splits."""

    stratify_by: ClassVar[str | None] = None
    """A column of classes of which every split has its share; None has no such column."""


WINDOWS = Kind("text")  # successive tokens of a text, cut into windows of equal length (`corpus.WindowRows`)

SYMBOLS = Kind("algorithmic")
"""An input of an algorithmic task and the one right answer to it, as symbols (`algorithmic.examples.Example`)."""

BLANKS = Kind("algorithmic with blanks")  # the same, where symbols of the output belong in blanks of the input


class ReadingOptions(NamedTuple):
    """Settings for reading pairs: as one text, or not, and the most tokens of a source, its end included."""

    joined: bool = False
    source_length: int | None = None


class ExampleKind(Kind, ABC):
    """A kind of examples in columns, one of which may be `document`, a string: no two splits share a document."""

    kept: ClassVar[tuple[str, ...]]
    """The columns that are kept next to token ids, to compare predictions with."""

    is_cut: ClassVar[bool] = False  # True cuts an example that is too long, False leaves it out

    has_sources: ClassVar[bool] = False
    """True if a target is written from a source, which may be cut (`source_length`)."""

    @abstractmethod
    def tokenise(self, rows: Rows, tokenizer: Tokenizer, options: ReadingOptions) -> dict[str, list[Any]]:
        """Return the token ids of examples by column, and in `length` the number of tokens that a model reads."""

    def labels(self, splits: Mapping[str, Dataset]) -> list[str]:
        """Return the different labels of all splits, if any, in order; ValueError if they cannot be learned."""
        return []

    def fit(self, columns: Mapping[str, ChunkedArray], names: Sequence[str]) -> bool:
        """Return whether a run can read prepared columns: positions are of tokens, and labels of these names.

        Token ids are checked for all kinds.
        """
        return True


def with_ends(tokenizer: Tokenizer, *texts: np.ndarray) -> np.ndarray:
    """Return the token of a start, and texts of tokens with an end after each, (N,)."""
    start, end = np.array([tokenizer.start_id]), np.array([tokenizer.end_id])
    return np.concatenate([start, *(part for text in texts for part in (text, end))])


# Checks of Arrow columns of prepared examples, whose files someone else may have written.


def sizes(column: ChunkedArray) -> ChunkedArray:
    from pyarrow import compute

    return compute.list_value_length(column)


def are_within(column: ChunkedArray, ends: Any) -> bool:
    """Return whether no number is missing, below 0, or not below its end.

    The column has a number for each example, a list of them, or a list of lists; `ends` is one for all, or one for
    each.
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
    different = compute.unique(compute.list_flatten(column) if is_list else column).to_pylist()
    return not column.null_count and set(different) <= set(names)

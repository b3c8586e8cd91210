"""The base class of all kinds of data."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

if TYPE_CHECKING:
    from datasets import Dataset
    from pyarrow import ChunkedArray

    from poslab.data.tokenizers import Tokenizer

Rows = Mapping[str, Sequence[Any]]
"""Examples by column."""


class Kind:
    """A kind of data; two sources of one kind serve the same tasks.

    Args:
        name: in messages and in the settings of prepared data, such as `text`.
    """

    def __init__(self, name: str) -> None:
        self.name = name


WINDOWS = Kind("text")
"""Successive tokens of a text, cut into windows of equal length (`windows.TextWindows`)."""

SYMBOLS = Kind("algorithmic")
"""An input of an algorithmic task and the one right answer to it, as symbols (`algorithmic.task.Example`)."""

BLANKS = Kind("algorithmic with blanks")
"""The same, where symbols of the output belong in blanks of the input."""


class Reading(NamedTuple):
    """Settings for reading examples.

    Args:
        joined: True reads the texts of a pair as one.
        source_length: of pairs, the most tokens of a source that are read, its end included; None reads all.
    """

    joined: bool = False
    source_length: int | None = None


class Labels(NamedTuple):
    """The labels of examples.

    Args:
        names: all different, in the order of their numbers; empty where there are none.
        several: True if an example may have several, or none.
    """

    names: list[str]
    several: bool = False


class ExampleKind(Kind, ABC):
    """A kind of examples in columns, one of which may be `document`, a string: no two splits share a document."""

    texts: ClassVar[tuple[str, ...]]
    """The columns by which two examples are the same; missing ones do not count."""

    read: ClassVar[tuple[str, ...]]
    """The columns that a model reads. Examples that read the same (`normal_form.py`) are never in two splits."""

    kept: ClassVar[tuple[str, ...]]
    """The columns that are kept beside token ids, to compare predictions with."""

    stratify_by: ClassVar[str | None] = None
    """A column of classes of which every split has its share; None has no such column."""

    is_cut: ClassVar[bool] = False
    """True cuts an example that is too long, False leaves it out."""

    has_sources: ClassVar[bool] = False
    """True if a target is written from a source, which may be cut (`source_length`)."""

    @abstractmethod
    def tokenise(self, rows: Rows, tokenizer: Tokenizer, reading: Reading) -> dict[str, list[Any]]:
        """Return the token ids of examples by column, and in `length` the number of tokens that a model reads."""

    def labels(self, splits: Mapping[str, Dataset]) -> Labels:
        """Return the labels of all splits.

        Raises:
            ValueError: beginning with the name of a column, for labels that cannot be learned.
        """
        return Labels([])

    def fit(self, columns: Mapping[str, ChunkedArray], names: Sequence[str]) -> bool:
        """Return whether a run can read prepared columns: their places are of tokens, and their labels of these names.

        Token ids are checked beside it, for all kinds.
        """
        return True

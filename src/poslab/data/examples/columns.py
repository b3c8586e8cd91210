"""Columns of examples: the arguments that name them, their types in `datasets`, and their values as text."""

from abc import ABC
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from poslab.data.source import PreparedSource, require_text

if TYPE_CHECKING:
    from datasets import Dataset

Splits = dict[str, "Dataset"]
"""Examples by split: `train`, and any of `validation` and `test`."""


class NamedColumns(PreparedSource, ABC):
    """A source that reads columns of tables, which its arguments name.

    Args:
        document: a column of documents, whose examples all come into one split; None: each example is its own.
        others: those of `PreparedSource`.
    """

    document: str | None = None

    column_arguments: ClassVar[tuple[str, ...]]
    """The arguments that name columns, without `document`."""

    @property
    def columns(self) -> dict[str, str]:
        """The columns that a table must have, by the arguments that name them; a default of None is optional."""
        columns = {argument: getattr(self, argument) for argument in self.column_arguments}
        return {name: column for name, column in columns.items() if (column, getattr(type(self), name)) != (None, None)}

    @property
    def all_columns(self) -> dict[str, str]:
        """The columns that are read, also the column of documents."""
        return self.columns | ({"document": self.document} if self.document is not None else {})

    @property
    def settings(self) -> tuple[object, ...]:
        """Values of other arguments of a subclass that decide which examples come out."""
        return ()


def require_distinct(role: str, named: Mapping[str, str]) -> None:
    """Raise ValueError for a name, by argument, that is no text or is that of two arguments; `role` is what it does."""
    owners: dict[str, str] = {}
    for argument, name in named.items():
        require_text(argument, name)
        if owners.setdefault(name, argument) != argument:
            raise ValueError(f"{argument} must {role} of its own, and {owners[name]} is {name!r} too")


def as_examples(**columns: Sequence[Any]) -> "Dataset":
    """Return a dataset of columns of one length, of strings, integers, lists or dictionaries."""
    from datasets import Dataset, Features, Value

    # Arrow's plain strings end at 2 GB a column.
    types = {name: type_of(column, Value("large_string")) for name, column in columns.items()}
    return Dataset.from_dict({name: list(column) for name, column in columns.items()}, features=Features(types))


def type_of(values: Iterable[Any], text: Any = None) -> Any:
    """Return the type of values as `datasets` has it: that of all of them, since a list may be empty.

    Args:
        values: of a column, or of lists in it; without any, they count as strings.
        text: the type of strings; None is a plain string.
    """
    from datasets import List, Value

    values = list(values)
    first = next(iter(values), "")
    if isinstance(first, list):
        return List(type_of(item for value in values for item in value))
    if isinstance(first, dict):
        return {key: type_of(value[key] for value in values) for key in first}
    return Value("int64") if isinstance(first, int) else text or Value("string")


def is_missing(value: Any) -> bool:
    """Return whether a cell is empty: nothing, blanks, or the `NaN` that pandas writes for it."""
    return value is None or value != value or (isinstance(value, str) and not value.strip())


def as_written(value: Any) -> str:
    """Return a value of JSON or Parquet as CSV has it; a whole number has no point, whatever its type is."""
    if isinstance(value, bool):
        return str(value).lower()
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)

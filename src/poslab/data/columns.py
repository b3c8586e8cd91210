"""Columns of examples: the arguments that name them, in files and on the Hub, their types, and their values as text."""

import json
from abc import ABC
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

from poslab.data.hub import HubSource
from poslab.data.source import PreparedSource, require_choice, require_text

if TYPE_CHECKING:
    from datasets import Dataset

Splits = dict[str, "Dataset"]  # examples by split: `train`, and any of `validation` and `test`
UNLABELLED = -1  # the number of no class
CLASS_TYPES = ("int", "uint", "bool", "string", "large_string", "null")


class NamedColumns(PreparedSource, ABC):
    """A source that reads columns of tables, which its arguments name.

    Args:
        document: a column of documents, whose examples all come into one split; None: each example is its own.
    """

    document: str | None = None

    column_arguments: ClassVar[tuple[str, ...]]  # the arguments that name columns, without `document`

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


class HubColumns(NamedColumns, HubSource):
    """A source that reads named columns of the rows of a data set on the Hub.

    A column within another is written with a point: `translation.en`.

    Args:
        train_split, validation_split, test_split: as of `HubSource`, or parts as `train[:10%]` or `train[:50000]`.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        require_distinct("name a column", self.all_columns)
        require_distinct("be a split", self.splits)

    @cached_property
    def identity(self) -> str:
        return json.dumps(
            [*self._kept_rows.identity, self.kind.name, self.columns, self.document, self.splits, *self.settings]
        )

    def rows(self, argument: str, split: str) -> Any:
        """Return the rows of a split that an argument names, with columns named as the arguments are."""
        name, part, _ = split.partition("[")
        require_choice(argument, name, self._source)
        rows = self._kept_rows.load(split) if part else self._source[name]
        return renamed(rows, self.all_columns)


def renamed(rows: Any, columns: Mapping[str, str]) -> Any:
    """Return columns of a table, named as the arguments that name them are; ValueError for one that is not there."""
    from datasets import concatenate_datasets

    undivided = [column for column, feature in rows.features.items() if hasattr(feature, "decode_example")]
    within = rows.remove_columns(undivided).flatten()  # an image has parts too
    for argument, column in columns.items():
        require_choice(argument, column, (within if "." in column else rows).column_names)
    direct = [column for column in columns.values() if column in rows.column_names]
    nested = [column for column in columns.values() if column not in direct]
    parts = [part.select_columns(chosen) for part, chosen in ((rows, direct), (within, nested)) if chosen]
    names = {column: argument for argument, column in columns.items() if column != argument}
    return concatenate_datasets(parts, axis=1).rename_columns(names)


def is_unlabelled(value: Any, feature: Any) -> bool:
    """Return whether a value of a column of classes means none: null, a blank, or -1 where classes have names."""
    from datasets import ClassLabel

    return is_missing(value) or (isinstance(feature, ClassLabel) and value == UNLABELLED)


def class_names(feature: Any, column: str) -> Callable[[Any], str]:
    """Return the function that names the class of a value, for a column of classes; ValueError for any other column.

    The function raises ValueError for a number that has no name.
    """
    from datasets import ClassLabel

    def name_of_number(number: int) -> str:
        names: list[str] = feature.names
        if not 0 <= number < len(names):
            raise ValueError(f"label must number one of {len(names)} classes, but {column!r} contains {number}")
        return names[number]

    if isinstance(feature, ClassLabel):
        return name_of_number
    is_mixed = type(feature).__name__ == "Json"
    if not is_mixed and not str(getattr(feature, "dtype", "")).startswith(CLASS_TYPES):
        raise ValueError(f"label must contain classes, and {column!r} contains {feature}")

    def written(value: Any) -> str:
        if isinstance(value, list | dict):
            raise ValueError(f"label must contain lists in all rows or in none, but {column!r} has {str(value)[:40]}")
        return as_written(value).strip()

    return written


def require_distinct(role: str, named: Mapping[str, str]) -> None:
    """Raise ValueError for a name, by argument, that is no text or names two arguments; `role` is what it does."""
    owners: dict[str, str] = {}
    for argument, name in named.items():
        require_text(argument, name)
        if owners.setdefault(name, argument) != argument:
            raise ValueError(f"{argument} must {role} that no other argument names, and {owners[name]} is {name!r} too")


def as_examples(**columns: Sequence[Any]) -> "Dataset":
    """Return a dataset of columns of one length, of strings or integers."""
    from datasets import Dataset, Features, Value

    # Arrow's plain strings end at 2 GB a column.
    numbers = {name for name, column in columns.items() if column and isinstance(column[0], int)}
    features = Features({name: Value("int64" if name in numbers else "large_string") for name in columns})
    return Dataset.from_dict({name: list(column) for name, column in columns.items()}, features=features)


def is_missing(value: Any) -> bool:
    """Return whether a cell is empty: nothing, blanks, or the `NaN` that pandas writes for it."""
    return value is None or value != value or (isinstance(value, str) and not value.strip())


def as_written(value: Any) -> str:
    """Return a value of JSON or Parquet as CSV has it; a whole number has no point, whatever its type is."""
    if isinstance(value, bool):
        return str(value).lower()
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)

"""Named columns of the rows of data sets on the Hugging Face Hub."""

import json
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

from poslab.data.examples.columns import NamedColumns, as_written, is_missing, require_distinct
from poslab.data.hub import HubRows, HubSource
from poslab.data.source import require_choice, require_text

UNLABELLED = -1
"""The number of no class."""
CLASS_TYPES = ("int", "uint", "bool", "string", "large_string", "null")


class HubColumns(NamedColumns, HubSource):
    """A source that reads named columns of the rows of a data set on the Hub.

    A column within another is written with a point: `translation.en`.

    Args:
        revision: a branch, tag or commit on the Hub; None: the newest. `refs/convert/parquet` has the rows of many data
            sets whose owners offer only a script, which `load_dataset` no longer runs.
        train_split, validation_split, test_split: as of `HubSource`, or parts as `train[:10%]` or `train[:50000]`.
        others: those of `NamedColumns` and `HubSource`.
    """

    revision: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.revision is not None:
            require_text("revision", self.revision)
        require_distinct("name a column", self.all_columns)
        require_distinct("be a split", self.splits)

    @property
    def splits(self) -> dict[str, str]:
        """The names of the given splits, by argument."""
        arguments = ("train_split", "validation_split", "test_split")
        return {argument: split for argument in arguments if (split := getattr(self, argument)) is not None}

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

    @cached_property
    def _kept_rows(self) -> HubRows:
        return HubRows(self.cache, self.path, self.name, self.data_files, self.revision)

    @cached_property
    def _source(self) -> Any:
        return self._kept_rows.load()


def renamed(rows: Any, columns: Mapping[str, str]) -> Any:
    """Return columns of a table with the names of the arguments that name them; one within another has a point.

    Raises:
        ValueError: beginning with the argument, for a column that is not there.
    """
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
            raise ValueError(f"label must number one of {len(names)} classes, but {column!r} holds {number}")
        return names[number]

    if isinstance(feature, ClassLabel):
        return name_of_number
    is_mixed = type(feature).__name__ == "Json"
    if not is_mixed and not str(getattr(feature, "dtype", "")).startswith(CLASS_TYPES):
        raise ValueError(f"label must hold classes, and {column!r} holds {feature}")

    def written(value: Any) -> str:
        if isinstance(value, list | dict):
            raise ValueError(f"label must hold a list in every row or in none, but {column!r} holds {str(value)[:40]}")
        return as_written(value).strip()

    return written

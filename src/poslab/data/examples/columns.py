"""Columns of examples as a Hugging Face dataset."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from datasets import Dataset

Splits = dict[str, "Dataset"]
"""Examples by split: `train`, and any of `validation` and `test`."""


def as_examples(**columns: Sequence[Any]) -> "Dataset":
    """Return a dataset of columns of one length, as of its kind: strings, lists of strings, or `answers`."""
    from datasets import Dataset, Features, List, Value

    # Arrow's plain strings end at 2 GB a column; a column of empty lists does not have a type of its own.
    text = Value("large_string")
    types: dict[str, Any] = dict.fromkeys(columns, text)
    for name, column in columns.items():
        if any(isinstance(value, list) for value in column):
            types[name] = List(Value("string"))
    if "answers" in columns:
        types["answers"] = List({"text": Value("string"), "start": Value("int64")})
    return Dataset.from_dict({name: list(column) for name, column in columns.items()}, features=Features(types))

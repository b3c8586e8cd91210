"""The base class of sources of examples on the Hugging Face Hub."""

import json
from abc import abstractmethod
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

from poslab.data.bounds import require_choice
from poslab.data.examples.source import ExampleSource
from poslab.data.hub import HubRows, HubSource
from poslab.data.source import require_text

if TYPE_CHECKING:
    from datasets import Dataset


class HubExamples(ExampleSource, HubSource):
    """Examples in the rows of a data set on the Hub.

    A column within another is written with a point: `translation.en`. Rows that lack a text are left out.

    Args:
        revision: a branch, tag or commit on the Hub; None: the newest. `refs/convert/parquet` has the rows of many data
            sets whose owners offer only a script, which `load_dataset` no longer runs.
        document: a column of documents, whose examples all come into one split; None: each stands alone.
        train_split, validation_split, test_split: as of `HubSource`, or parts as `train[:10%]` or `train[:50000]`.
        others: those of `ExampleSource` and `HubSource`.
    """

    revision: str | None = None
    document: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.revision is not None:
            require_text("revision", self.revision)
        for what, named in (("name a column", self._all_columns), ("be a split", self._splits)):
            owners: dict[str, str] = {}
            for argument, name in named.items():
                require_text(argument, name)
                if owners.setdefault(name, argument) != argument:
                    raise ValueError(f"{argument} must {what} of its own, and {owners[name]} is {name!r} too")

    @abstractmethod
    def from_rows(self, rows: "Dataset", split_argument: str) -> "Dataset":
        """Return the examples that rows hold.

        Args:
            rows: in columns that have the names of arguments, and `document`, a string, where there is one.
            split_argument: name of the argument that names the split of these rows.
        """

    @cached_property
    def identity(self) -> str:
        return json.dumps(
            [*self._kept_rows.identity, self.kind.name, self.columns, self.document, self._splits, *self.settings]
        )

    def examples(self) -> "dict[str, Dataset]":
        return {
            argument.removesuffix("_split"): self.from_rows(self._rows(argument, split), argument)
            for argument, split in self._splits.items()
        }

    @property
    def _all_columns(self) -> dict[str, str]:
        return self.columns | ({"document": self.document} if self.document is not None else {})

    @property
    def _splits(self) -> dict[str, str]:
        """The names of the given splits, by argument."""
        arguments = ("train_split", "validation_split", "test_split")
        return {argument: split for argument in arguments if (split := getattr(self, argument)) is not None}

    @cached_property
    def _kept_rows(self) -> HubRows:
        return HubRows(self.cache, self.path, self.name, self.data_files, self.revision)

    @cached_property
    def _source(self) -> Any:
        return self._kept_rows.load()

    def _rows(self, argument: str, split: str) -> Any:
        """Return the rows of a split, with columns named as the arguments are."""
        from datasets import Value

        name, part, _ = split.partition("[")
        require_choice(argument, name, self._source)
        rows = self._kept_rows.load(split) if part else self._source[name]
        columns = self._all_columns
        within = rows.flatten().column_names
        for column_argument, column in columns.items():
            require_choice(column_argument, column, within if "." in column else rows.column_names)
        if any(column not in rows.column_names for column in columns.values()):
            rows = rows.flatten()
        rows = rows.select_columns(list(columns.values()))
        for column_argument, column in columns.items():
            feature = rows.features[column]
            if column_argument in self.kind.texts and "string" not in str(getattr(feature, "dtype", "")):
                raise ValueError(f"{column_argument} must hold text, and {column!r} holds {feature}")
        if self.document is not None and "string" not in str(rows.features[self.document].dtype):
            features = rows.features.copy()
            features[self.document] = Value("string")
            rows = rows.cast(features, load_from_cache_file=False)
        return rows.rename_columns({column: argument for argument, column in columns.items() if column != argument})


def rewritten(
    rows: "Dataset", rewrite: Callable[[dict[str, Any], int], list[dict[str, Any]]], types: Mapping[str, Any]
) -> "Dataset":
    """Return the rows that `rewrite` makes of each row and its number from 0, with columns of these types."""
    from datasets import Features

    def rewrite_batch(batch: dict[str, list[Any]], indices: list[int]) -> dict[str, list[Any]]:
        old = [dict(zip(batch, values, strict=True)) for values in zip(*batch.values(), strict=True)]
        new = [made for row, index in zip(old, indices, strict=True) for made in rewrite(row, index)]
        return {column: [row[column] for row in new] for column in types}

    settings = {"features": Features(types), "remove_columns": rows.column_names, "load_from_cache_file": False}
    return rows.map(rewrite_batch, batched=True, with_indices=True, **settings)

"""The base class of sources of examples on the Hugging Face Hub."""

from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from poslab.data.examples.source import ExampleSource
from poslab.data.hub_columns import HubColumns

if TYPE_CHECKING:
    from datasets import Dataset


class HubExamples(ExampleSource, HubColumns):
    """Examples in the rows of a data set on the Hub. Rows that lack a text are left out.

    Args:
        others: those of `ExampleSource` and `HubColumns`.
    """

    @abstractmethod
    def from_rows(self, rows: "Dataset", split_argument: str) -> "Dataset":
        """Return the examples that rows hold.

        Args:
            rows: in columns that have the names of arguments, and `document`, a string, where there is one.
            split_argument: name of the argument that names the split of these rows.
        """

    def examples(self) -> "dict[str, Dataset]":
        return {
            argument.removesuffix("_split"): self.from_rows(self._texts(argument, split), argument)
            for argument, split in self.splits.items()
        }

    def _texts(self, argument: str, split: str) -> "Dataset":
        """Return the rows of a split, as `from_rows` gets them."""
        rows: Dataset = self.rows(argument, split)
        for column_argument, column in self.columns.items():
            feature = rows.features[column_argument]
            if column_argument in self.kind.texts and "string" not in str(getattr(feature, "dtype", "")):
                raise ValueError(f"{column_argument} must hold text, and {column!r} holds {feature}")
        return rows


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

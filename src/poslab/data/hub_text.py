"""Text data sets of the Hugging Face Hub, and local files that `datasets.load_dataset` reads."""

import json
from collections.abc import Iterator
from functools import cached_property
from typing import TYPE_CHECKING, Any

from poslab.data.corpus import Corpus
from poslab.data.hub import HubRows, HubSource
from poslab.data.source import require_choice, require_text
from poslab.data.splitting import as_dataset

if TYPE_CHECKING:
    from datasets import Dataset, IterableDataset

HELD_OUT_DOCUMENTS = 500
FIRST_DOCUMENTS = 5000
SHUFFLE_BUFFER = 1000


class HubText(Corpus, HubSource):
    """A data set on the Hub, a row a document. Its validation and test splits are used if they are named.

    With `streaming` the training text is read during training and never stored. Validation and test are the first 500
    documents of their own splits, or else the first of the training split, which training then leaves out. Whatever
    needs training text beforehand (a `bpe` vocabulary, overlap, bytes per token) is computed on the first 5000
    documents of training.

    Args:
        column: the column of the text (default `text`).
        streaming: read from the source while training (default false); not with `deduplicate`, which needs all text.
        others: those of `Corpus` and `HubSource`.
    """

    column: str = "text"
    streaming: bool = False

    title = "hub"

    def __post_init__(self) -> None:
        super().__post_init__()
        require_text("column", self.column)
        if self.streaming and self.deduplicate:
            raise ValueError(
                "deduplicate must be false with streaming, which never has the whole text at hand, got true"
            )

    @cached_property
    def identity(self) -> str:
        return json.dumps([*self._rows.identity, self.column, list(self._split_names.items()), self.streaming])

    def documents(self) -> "dict[str, Dataset]":
        splits = {split: self._texts(name) for split, name in self._split_names.items()}
        if not self.streaming:
            return splits
        for place, split in enumerate(self._splits_from_training):
            splits[split] = splits["train"].skip(place * HELD_OUT_DOCUMENTS)
        splits["train"] = self._training_text
        counts = {"train": FIRST_DOCUMENTS, "validation": HELD_OUT_DOCUMENTS, "test": HELD_OUT_DOCUMENTS}
        return {
            split: as_dataset([row["text"] for row in stream.take(counts[split])]) for split, stream in splits.items()
        }

    def training_batches(self, epoch: int, batch_size: int) -> Iterator[list[str]]:
        shuffled = self._training_text.shuffle(seed=self.seed + epoch, buffer_size=SHUFFLE_BUFFER)
        return (batch["text"] for batch in shuffled.iter(batch_size=batch_size))

    @property
    def _training_text(self) -> "IterableDataset":
        return self._texts(self.train_split).skip(HELD_OUT_DOCUMENTS * len(self._splits_from_training))

    @property
    def _split_names(self) -> dict[str, str]:
        names = {"train": self.train_split, "validation": self.validation_split, "test": self.test_split}
        return {split: name for split, name in names.items() if name is not None}

    @property
    def _splits_from_training(self) -> list[str]:
        return [split for split in ("validation", "test") if split not in self._split_names]

    @cached_property
    def _rows(self) -> HubRows:
        return HubRows(self.cache, self.path, self.name, self.data_files)

    @cached_property
    def _source(self) -> Any:
        return self._rows.stream() if self.streaming else self._rows.load()

    def _texts(self, split: str) -> Any:
        """Return a split with a single column `text`."""
        argument = next(f"{key}_split" for key, name in self._split_names.items() if name == split)
        require_choice(argument, split, self._source)
        rows = self._source[split]
        require_choice("column", self.column, rows.column_names or next(iter(rows)))
        if rows.features is not None and "string" not in str(getattr(rows.features[self.column], "dtype", "")):
            raise ValueError(f"column must hold text, and {self.column!r} holds {rows.features[self.column]}")
        rows = rows.select_columns([self.column])
        return rows if self.column == "text" else rows.rename_column(self.column, "text")

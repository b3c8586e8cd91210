"""Text data sets of the Hugging Face Hub, and local files that `datasets.load_dataset` reads; perhaps as a stream.

Dimension letters: B windows, U = T + 1 tokens (of a window and the one that follows).
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import count, cycle, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from poslab.data.columns import as_examples
from poslab.data.corpus import Corpus, TextSplits, WindowRows
from poslab.data.hub import HubSource
from poslab.data.preparation import batches
from poslab.data.source import HELD_OUT, Collating, require_choice, require_text
from poslab.data.tokenizers import Tokenizer

if TYPE_CHECKING:
    from datasets import Dataset, IterableDataset

    from poslab.data.batch import Batch, Collate
    from poslab.data.order import BatchPlan

HELD_OUT_DOCUMENTS = 500
FIRST_DOCUMENTS = 5000
SHUFFLE_BUFFER = 1000
_DOCUMENTS_AT_ONCE = 64


class HubText(Corpus, HubSource):
    """A data set on the Hub, a row a document. Its validation and test splits are used if they are named.

    With `streaming` the training text is read during training and never stored. Validation and test are the first 500
    documents of their own splits, or else the first of the training split, which training then leaves out. Whatever
    needs training text beforehand (a `bpe` vocabulary, overlap, bytes per token) is computed on the first 5000
    documents of training.

    Args:
        column: the column of the text (default `text`).
        streaming: read from the source while training (default false); not with `deduplicate`, which needs all text.
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
        names = [(argument.removesuffix("_split"), name) for argument, name in self.splits.items()]
        return json.dumps([*self._kept_rows.identity, self.column, names, self.streaming])

    def documents(self) -> "dict[str, Dataset]":
        splits = {argument.removesuffix("_split"): self._texts(argument) for argument in self.splits}
        if not self.streaming:
            return splits
        for number, split in enumerate(self._splits_from_training):
            splits[split] = splits["train"].skip(number * HELD_OUT_DOCUMENTS)
        splits["train"] = self.training_text
        counts = {"train": FIRST_DOCUMENTS, "validation": HELD_OUT_DOCUMENTS, "test": HELD_OUT_DOCUMENTS}
        return {
            split: as_examples(text=[row["text"] for row in stream.take(counts[split])])
            for split, stream in splits.items()
        }

    def open(self, joined: bool = False) -> TextSplits:
        return StreamedSplits(self, self.prepare()) if self.streaming else super().open(joined)

    @property
    def training_text(self) -> "IterableDataset":
        """The streamed text of training."""
        return self._texts("train_split").skip(HELD_OUT_DOCUMENTS * len(self._splits_from_training))

    @property
    def _splits_from_training(self) -> list[str]:
        return [split for split in HELD_OUT if f"{split}_split" not in self.splits]

    @cached_property
    def _source(self) -> Any:
        return self._kept_rows.stream() if self.streaming else super()._source

    def _texts(self, argument: str) -> Any:
        """Return the split that an argument names with a single column `text`."""
        split = self.splits[argument]
        require_choice(argument, split, self._source)
        rows = self._source[split]
        require_choice("column", self.column, rows.column_names or next(iter(rows)))
        if rows.features is not None and "string" not in str(getattr(rows.features[self.column], "dtype", "")):
            raise ValueError(f"column must contain text, and {self.column!r} contains {rows.features[self.column]}")
        rows = rows.select_columns([self.column])
        return rows if self.column == "text" else rows.rename_column(self.column, "text")


class StreamedSplits(TextSplits):
    """Held-out windows of a prepared text, whose training text is read during training."""

    measured_text = "the beginning of training"
    source: HubText

    def __init__(self, corpus: HubText, folder: Path) -> None:
        super().__init__(corpus, folder)
        del self.num_tokens["train"]

    def training_batches(self, task: Collating, plan: "BatchPlan") -> "StreamLoader":
        return StreamLoader(self.source, self.tokenizer, task.collate, plan)

    @property
    def num_rows(self) -> None:
        return None


def windows_of(documents: Iterator[list[str]], tokenizer: Tokenizer, length: int) -> Iterator[np.ndarray]:
    """Cut batches of documents into windows of `length` + 1 tokens, each from the last token of the one before."""
    pending = np.zeros(0, dtype=np.int64)
    for texts in documents:
        pending = np.concatenate([pending, tokenizer.encode_documents(texts)])
        complete = max(0, (len(pending) - 1) // length)
        for number in range(complete):
            yield pending[number * length : (number + 1) * length + 1]
        pending = pending[complete * length :]


@dataclass(eq=False)
class StreamLoader:
    """Micro-batches of this process over the whole run, read from a corpus with `streaming`.

    Every process reads the whole stream in the same order and takes the windows of its plan; a resumed run reads the
    beginning again. So the windows of a step depend on neither.
    """

    corpus: HubText
    tokenizer: Tokenizer
    collate: "Collate"
    plan: "BatchPlan"

    def __len__(self) -> int:
        return len(self.plan)

    def __iter__(self) -> Iterator["Batch"]:
        windows = windows_of(self._documents(), self.tokenizer, self.corpus.sequence_length)
        if self.corpus.overfit:
            windows = cycle(islice(windows, self.corpus.batch_size))
        taken = 0
        for indices in self.plan:
            rows = list(islice(windows, indices.start - taken, indices.stop - taken))
            taken = indices.stop
            windows_BU = np.stack(rows)
            yield self.collate(WindowRows(windows_BU, list(indices)), np.ones_like(windows_BU, dtype=bool))

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Do nothing: see `order.RunLoader`."""

    def _documents(self) -> Iterator[list[str]]:
        """Yield endless passes over the training text, without empty documents."""
        for epoch in count():
            is_empty = True
            shuffled = self.corpus.training_text.shuffle(self.corpus.seed + epoch, buffer_size=SHUFFLE_BUFFER)
            for texts in batches(shuffled, _DOCUMENTS_AT_ONCE):
                is_empty = False
                yield texts
            if is_empty:
                raise ValueError("train_split has no text beyond the documents that are held out")

"""Training on text that is read from its source during training.

Dimension letters: B windows, U = T + 1 tokens (those of a window and the one that follows).
"""

from collections.abc import Iterator
from itertools import count, cycle, islice
from typing import Any

import numpy as np

from poslab.data.batch import Batch, Collate
from poslab.data.order import BatchPlan
from poslab.data.tokenizers import Tokenizer
from poslab.data.windows import TextWindows

_DOCUMENTS_AT_ONCE = 64


def windows_of(documents: Iterator[list[str]], tokenizer: Tokenizer, length: int) -> Iterator[np.ndarray]:
    """Cut batches of documents into windows of `length` + 1 tokens, each from the last token of the one before."""
    pending = np.zeros(0, dtype=np.int64)
    for texts in documents:
        pending = np.concatenate([pending, tokenizer.encode_documents(texts)])
        complete = max(0, (len(pending) - 1) // length)
        for number in range(complete):
            yield pending[number * length : (number + 1) * length + 1]
        pending = pending[complete * length :]


class StreamLoader:
    """Micro-batches of this process over the whole run, read from a corpus with `streaming`.

    Every process reads the whole stream in the same order and takes the places of its plan; a resumed run reads the
    beginning again. So the windows of a step depend on neither.
    """

    def __init__(self, corpus: Any, tokenizer: Tokenizer, collate: Collate, plan: BatchPlan) -> None:
        self.corpus = corpus
        self.tokenizer = tokenizer
        self.collate = collate
        self.plan = plan

    def __len__(self) -> int:
        return len(self.plan)

    def __iter__(self) -> Iterator[Batch]:
        windows = windows_of(self._documents(), self.tokenizer, self.corpus.sequence_length)
        if self.corpus.overfit:
            windows = cycle(islice(windows, self.corpus.batch_size))
        taken = 0
        for places in self.plan:
            rows = list(islice(windows, places.start - taken, places.stop - taken))
            taken = places.stop
            windows_BU = np.stack(rows)
            yield self.collate(TextWindows(windows_BU, list(places)), np.ones_like(windows_BU, dtype=bool))

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Do nothing: see `loaders.RunLoader`."""

    def _documents(self) -> Iterator[list[str]]:
        """Yield endless passes over the training text, without empty documents."""
        for epoch in count():
            found = False
            for texts in self.corpus.training_batches(epoch, _DOCUMENTS_AT_ONCE):
                if texts := [text for text in texts if text]:
                    found = True
                    yield texts
            if not found:
                raise ValueError("train_split holds no text beyond the documents that are held out")

"""Texts and their classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from poslab.data.kinds.kind import ExampleKind, Labels, Reading, Rows
from poslab.data.kinds.prepared import are_among

if TYPE_CHECKING:
    from datasets import Dataset
    from pyarrow import ChunkedArray

    from poslab.data.tokenizers import Tokenizer


class Classes(ExampleKind):
    """Texts in the column `text`, and their classes in `label`: a string, or a list where a text may have several.

    A second text, as in entailment, stands in `text_pair`. Two examples with the same texts are the same, since two
    classes of one text would contradict each other.
    """

    texts = read = ("text", "text_pair")
    kept = ("label",)
    stratify_by = "label"
    is_cut = True

    def tokenise(self, rows: Rows, tokenizer: Tokenizer, reading: Reading) -> dict[str, list[Any]]:
        """Return `start text end`, or `start text end other end`, where `end` is the token that ends a document.

        Most tokenizers have no token of their own for the start: a document then follows the end of another. A model
        that reads the last token has seen the whole text.
        """
        start, end = np.array([tokenizer.start_id]), np.array([tokenizer.end_id])
        texts = [rows["text"], rows["text_pair"]] if "text_pair" in rows else [rows["text"]]
        tokens = [
            np.concatenate([start, *(part for text in row for part in (tokenizer.encode(text), end))])
            for row in zip(*texts, strict=True)
        ]
        return {"tokens": tokens, "length": [len(row) for row in tokens]}

    def labels(self, splits: Mapping[str, Dataset]) -> Labels:
        labels = (label for examples in splits.values() for label in examples["label"])
        found = {name for label in labels for name in ([label] if isinstance(label, str) else label)}
        if len(found) < 2:
            only = f"only {found.pop()!r}" if found else "none"
            raise ValueError(f"examples must be of at least two classes, and there is {only} among those that are kept")
        return Labels(sorted(found), several=not isinstance(splits["train"][0]["label"], str))

    def fit(self, columns: Mapping[str, ChunkedArray], names: Sequence[str]) -> bool:
        return are_among(columns["label"], names)


CLASSES = Classes("classification")

"""Texts and their classes, as token ids and as batches.

A text is read as `end text end`, two as `end text end other end`, where `end` is the token that ends a document: what
stands before a document is the end of another, and a model that reads the last token has seen all of the text there.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from poslab.data.batch import IGNORE, ClassBatch, padded
from poslab.data.tokenizers import Tokenizer


def tokenised_classes(batch: Mapping[str, Sequence[Any]], tokenizer: Tokenizer) -> dict[str, list[Any]]:
    """Token ids and length of each text or pair of texts."""
    end = np.array([tokenizer.end_id])
    texts = [batch["text"], batch["text_pair"]] if "text_pair" in batch else [batch["text"]]
    rows = [
        np.concatenate([end, *(part for text in row for part in (tokenizer.encode(text), end))])
        for row in zip(*texts, strict=True)
    ]
    return {"tokens": rows, "length": [len(row) for row in rows]}


class ClassBatches:
    """Makes batches of texts and their classes.

    Args:
        classes: their names, in the order of their numbers.
        several: whether a text may have several of them, or none.
        max_length: tokens that are read of a text; a longer one loses what stands before its last token.
    """

    columns = ("tokens", "label")
    measured = ()

    def __init__(self, classes: Sequence[str], several: bool, max_length: int) -> None:
        self.number = {name: number for number, name in enumerate(classes)}
        self.several = several
        self.max_length = max_length

    def __call__(self, rows: Mapping[str, Sequence[Any]], counts: np.ndarray) -> ClassBatch:
        """The batch of these examples, of which some do not count."""
        tokens, real = padded([self._cut(row) for row in rows["tokens"]])
        if self.several:
            classes = torch.zeros(len(counts), len(self.number), dtype=torch.int64)
            for place, names in enumerate(rows["label"]):
                classes[place, [self.number[name] for name in names]] = 1
        else:
            classes = torch.tensor([self.number[name] for name in rows["label"]])
        classes[torch.from_numpy(~counts)] = IGNORE
        return ClassBatch(tokens, real, classes)

    def _cut(self, tokens: Sequence[int]) -> np.ndarray:
        row = np.asarray(tokens)
        return row if len(row) <= self.max_length else np.append(row[: self.max_length - 1], row[-1])

"""The task of tagging each word of a text, such as the names of people and places in it.

Dimension letters: B texts, T tokens, C tags.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from poslab.data.batch import IGNORE, TokenBatch, mask_or_none, padded
from poslab.data.examples.tags import TAGS
from poslab.data.kinds import ReadingOptions, Rows
from poslab.data.tokenizers import Tokenizer
from poslab.models import Model, Outputs
from poslab.tasks.measurement import Measurement, NamedOutputs, ScoreMeans
from poslab.tasks.task import Prediction, Search, device_of
from poslab.tasks.token_prediction import TokenPrediction

Entity = tuple[int, int, str]
"""The first word of an entity, the word after its last, and its type."""


class TokenTagging(TokenPrediction):
    """Predict the tag of each word at its first token.

    The loss is the cross-entropy of a tag, and `accuracy` the share of tags that are right. `precision`, `recall` and
    `f1`, from 0 to 100, are of entities: one is right if its first word, its last word and its type are.

    Source: Tjong Kim Sang, De Meulder, "Introduction to the CoNLL-2003 Shared Task" (2003), section 2.5, in the lenient
    reading of seqeval: an entity starts with `I-` too where the word before is not of the same type.
    """

    kind = TAGS
    needs = frozenset({"bidirectional"})
    record_type = NamedOutputs
    predicts_tokens = False
    headline = "accuracy"
    chosen_by = "f1"
    shown = validated = ("f1", "precision", "recall", "accuracy", "loss")
    columns = ("tokens", "firsts", "tags")

    def __init__(self, tags: Sequence[str], tokenizer: Tokenizer) -> None:
        self.tags = list(tags)
        self.tokenizer = tokenizer
        self.number = {name: number for number, name in enumerate(tags)}
        self.outputs = Outputs(len(tags), pooled=False)

    @classmethod
    def of(cls, data: Any) -> Self:
        return cls(data.splits.facts.classes, data.tokenizer)

    @classmethod
    def restored(cls, record: NamedOutputs, tokenizer: Any, source: Any) -> Self:
        if record.outputs != (len(record.classes), False):
            raise ValueError("it has not learned to tag words")
        return cls(record.classes, tokenizer)

    def record(self) -> NamedOutputs:
        return NamedOutputs(outputs=self.outputs, classes=self.tags)

    def collate(self, rows: Rows, counts: np.ndarray) -> TokenBatch:
        tokens, real = padded([np.asarray(row) for row in rows["tokens"]])
        targets = torch.full_like(tokens, IGNORE)
        for row, (firsts, tags) in enumerate(zip(rows["firsts"], rows["tags"], strict=True)):
            if counts[row]:
                targets[row, list(firsts)] = torch.tensor([self.number[tag] for tag in tags])
        return TokenBatch(tokens, targets, real=mask_or_none(real))

    def answers(self, logits_BTC: Tensor, batch: TokenBatch) -> list[tuple[list[str], list[str]]]:
        """Return the predicted and the actual tags of each text."""
        return [
            (self._named(predicted_T[targets_T != IGNORE]), self._named(targets_T[targets_T != IGNORE]))
            for predicted_T, targets_T in zip(logits_BTC.argmax(-1), batch.targets, strict=True)
        ]

    def _named(self, numbers: Tensor) -> list[str]:
        return [self.tags[number] for number in numbers.tolist()]

    def metrics(self, split: str) -> Measurement:
        return Measurement(self, split, EntityScores("precision", "recall", "f1"))

    @torch.no_grad()
    def predict(self, model: Model, text: str, search: Search) -> Prediction:
        """Return the tags of the words of a text, between spaces."""
        rows = self.kind.tokenise({"text": [" ".join(text.split())]}, self.tokenizer, ReadingOptions())
        tokens = torch.from_numpy(rows["tokens"][0].astype(np.int64)).unsqueeze(0).to(device_of(model))
        return Prediction(" ".join(self._named(model(tokens)[0, rows["firsts"][0]].argmax(-1))))

    def example_prompt(self) -> str:
        return '"some words"'


def entities(tags: Sequence[str]) -> set[Entity]:
    """Return the entities of a sentence.

    Example: `B-PER I-PER O I-LOC B-LOC` has a person of words 0 and 1, and two places, word 3 and word 4.
    """
    spans: set[Entity] = set()
    begin, before = 0, ""
    for word, tag in enumerate([*tags, "O"]):
        prefix, _, kind = tag.partition("-")
        if before and (prefix != "I" or kind != before):
            spans.add((begin, word, before))
            before = ""
        if prefix != "O" and not before:
            begin, before = word, kind
    return spans


class EntityScores(ScoreMeans):
    """Precision, recall and F1 of entities over all batches and processes, 0 to 100."""

    def update(self, *tags: Any) -> None:
        """Add the entities of a sentence by its predicted and its actual tags."""
        predicted, actual = map(entities, tags)
        right = len(predicted & actual)
        of_both = (200 * right, len(predicted) + len(actual))
        super().update((100 * right, len(predicted)), (100 * right, len(actual)), of_both)

    def compute(self) -> dict[str, float]:
        """Return the scores by name; 0 where no entity was predicted, or none is actual."""
        return {name: 0.0 if math.isnan(score) else score for name, score in super().compute().items()}

"""The task of finding the answer to a question in a text.

Dimension letters: B questions, T tokens of a question and its context.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from poslab.data.batch import IGNORE, padded
from poslab.data.examples.answers import SPANS
from poslab.data.kinds import ReadingOptions, Rows
from poslab.data.tokenizers import Tokenizer
from poslab.models import Model, Outputs
from poslab.tasks.measurement import ItemSums, Measurement, Observation, ScoreMeans, Sums, TaskRecord
from poslab.tasks.task import Prediction, Search, Task, device_of

MAX_ANSWER_TOKENS = 30

PUNCTUATION = str.maketrans("", "", string.punctuation)
ARTICLE = re.compile(r"\b(a|an|the)\b")


class Context(NamedTuple):
    """A text and the characters of each of its tokens."""

    text: str  # the whole
    first: int  # position of its first token in the input of the model
    characters: np.ndarray  # (N, 2), of each of its tokens: from, to

    def between(self, first: int, last: int) -> str:
        """Return the text from one token to another, by their positions in the input; empty before the context.

        A token may start with the space before its word, which is not part of an answer.
        """
        if first < self.first:
            return ""
        return self.text[self.characters[first - self.first, 0] : self.characters[last - self.first, 1]].strip()


class SpanBatch(NamedTuple):
    """Questions with their contexts, and the positions of the answers."""

    tokens: Tensor  # token ids, (B, T) int64
    real: Tensor  # (B, T) bool, False at padding
    # (B, T) bool, True where an answer may begin and end: in the context, and at the first token, which means "no
    # answer here"
    answerable: Tensor
    # (B, 2) int64, the first and the last token of the answer; `IGNORE` in rows that do not count
    spans: Tensor
    contexts: Sequence[Context] = ()  # one a row, to turn positions of tokens into text; empty in training
    # the right answers, one list a row, an empty one where there is no answer; empty in training
    right: Sequence[list[str]] = ()


class QuestionAnswering(Task):
    """Predict the first and the last token of the answer, or that there is none.

    The loss of an example is the mean of the two cross-entropies. `exact_match` and `f1`, 0 to 100, are SQuAD's: of the
    most similar right answer, without articles, punctuation and case.

    Source: Devlin et al., "BERT" (2019), sections 4.2 and 4.3; Rajpurkar et al., "SQuAD" (2016).
    """

    kind = SPANS
    needs = frozenset({"bidirectional"})
    headline = "accuracy"
    shown = validated = ("exact_match", "f1", "accuracy", "loss")
    outputs = Outputs(2, pooled=False)
    predicts_tokens = False
    columns = ("tokens", "first", "span")
    measured_columns = ("places", "context", "answers")

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer

    @classmethod
    def of(cls, data: Any) -> QuestionAnswering:
        return cls(data.tokenizer)

    @classmethod
    def restored(cls, record: TaskRecord, tokenizer: Any, source: Any) -> QuestionAnswering:
        if record.outputs != cls.outputs:
            raise ValueError("it has not learned to find answers")
        return cls(tokenizer)

    def collate(self, rows: Rows, counts: np.ndarray) -> SpanBatch:
        """Return a batch, without texts where the rows have none."""
        tokens, real = padded([np.asarray(row) for row in rows["tokens"]])
        position_T = torch.arange(tokens.shape[1])
        first_B1 = torch.as_tensor(np.asarray(rows["first"], dtype=np.int64)).unsqueeze(-1)
        last_B1 = real.sum(-1, keepdim=True) - 1
        answerable = ((position_T >= first_B1) & (position_T < last_B1)) | (position_T == 0)
        spans = torch.as_tensor(np.asarray(rows["span"], dtype=np.int64))
        spans[torch.from_numpy(~counts)] = IGNORE
        if "context" not in rows:
            return SpanBatch(tokens, real, answerable, spans)
        right = [[answer["text"] for answer in answers] for answers in rows["answers"]]
        contexts = [
            Context(text, int(first), np.asarray(characters))
            for text, first, characters in zip(rows["context"], rows["first"], rows["places"], strict=True)
        ]
        return SpanBatch(tokens, real, answerable, spans, contexts, right)

    def logits(self, model: Model, batch: SpanBatch) -> Tensor:
        """Return the log probabilities of each token to be the first and the last of the answer, (B, T, 2)."""
        logits_BT2 = model(batch.tokens, real=batch.real).float()
        lowest = torch.finfo(logits_BT2.dtype).min
        return logits_BT2.masked_fill(~batch.answerable.unsqueeze(-1), lowest).log_softmax(1)

    def sums(self, log_p_BT2: Tensor, batch: SpanBatch) -> Sums:
        losses_B2 = functional.nll_loss(log_p_BT2, batch.spans, ignore_index=IGNORE, reduction="none")
        right_B = (log_p_BT2.detach().argmax(1) == batch.spans).all(-1)
        return Sums(losses_B2.mean(-1).sum(), right_B.sum(), (batch.spans[:, 0] != IGNORE).sum())

    def distributions(self, log_p_BT2: Tensor, batch: SpanBatch) -> tuple[Tensor, Tensor]:
        """Return the distributions of the first and of the last token."""
        return log_p_BT2.mT, (batch.spans != IGNORE).float() / 2

    def first_tokens(self, batch: SpanBatch, length: int) -> SpanBatch:
        if batch.tokens.shape[1] <= length:
            return batch
        is_cut_B1 = batch.real[:, length:].any(-1, keepdim=True)
        return batch._replace(
            tokens=batch.tokens[:, :length],
            real=batch.real[:, :length],
            answerable=batch.answerable[:, :length],
            spans=batch.spans.masked_fill(is_cut_B1, IGNORE),
        )

    def answers(self, log_p_BT2: Tensor, batch: SpanBatch) -> list[tuple[str, list[str]]]:
        """Return the answer that the model gives to each question that counts, and the right ones."""
        counts = (batch.spans[:, 0] != IGNORE).tolist()
        rows = zip(batch.contexts, best_spans(log_p_BT2), batch.right, counts, strict=True)
        return [(context.between(*span), right) for context, span, right, counted in rows if counted]

    def scores(self, observation: Observation) -> ItemSums:
        (answer,) = observation.answers
        exact_match, f1 = likeness(*answer)
        return {**super().scores(observation), "exact_match": (exact_match, 1), "f1": (f1, 1)}

    def metrics(self, split: str) -> Measurement:
        return Measurement(self, split, LikenessMeans("exact_match", "f1"))

    @torch.no_grad()
    def predict(self, model: Model, text: str, search: Search) -> Prediction:
        question, tab, context = text.partition("\t")
        if not tab:
            raise ValueError("prompt must be a question and a context that are separated by a tab")
        rows: dict[str, Any] = {"question": [question], "context": [context], "answers": [[]]}
        rows |= self.kind.tokenise(rows, self.tokenizer, ReadingOptions())
        batch, device = self.collate(rows, np.array([True])), device_of(model)
        tokens, real, answerable = (part.to(device) for part in batch[:3])
        log_p_BT2 = self.logits(model, batch._replace(tokens=tokens, real=real, answerable=answerable))
        return Prediction(batch.contexts[0].between(*best_spans(log_p_BT2)[0]))

    def example_prompt(self) -> str:
        return r"$'a question\tand its context'"


def best_spans(log_p_BT2: Tensor, longest: int = MAX_ANSWER_TOKENS) -> list[tuple[int, int]]:
    """Return the first and last token of the most probable span of each row, of at most `longest` tokens."""
    length = log_p_BT2.shape[1]
    together_BTT = log_p_BT2[..., 0].unsqueeze(2) + log_p_BT2[..., 1].unsqueeze(1)
    fits_TT = torch.ones(length, length, dtype=torch.bool, device=log_p_BT2.device).triu().tril(longest - 1)
    fits_TT[0, 1:] = False  # the first token is not part of an answer
    best_B = together_BTT.masked_fill(~fits_TT, -torch.inf).flatten(1).argmax(-1)
    return [(int(index) // length, int(index) % length) for index in best_B]


class LikenessMeans(ScoreMeans):
    """Means over answers of `likeness`, of which an update has the arguments."""

    def update(self, *answer: Any) -> None:
        super().update(*((score, 1) for score in likeness(*answer)))


def likeness(predicted: str, right: list[str]) -> tuple[float, float]:
    """Return exact match and F1 of an answer, 0 to 100, by the rules of SQuAD's script of version 1.1.

    Two texts of only articles and punctuation match, but share no word: their F1 is 0. Where there is no answer, or
    none is predicted (an empty text), both metrics are 100 or 0 (SQuAD 2).
    """
    if not predicted or not right:
        agree = 100.0 * (not predicted and not right)
        return agree, agree
    words, references = _words(predicted), [_words(answer) for answer in right]
    shared = ((len(reference), (Counter(words) & Counter(reference)).total()) for reference in references)
    f1 = max(200.0 * both / (len(words) + length) if both else 0.0 for length, both in shared)
    return 100.0 * (words in references), f1


def _words(text: str) -> list[str]:
    """Return the words of a text without case, punctuation and articles."""
    return ARTICLE.sub(" ", text.lower().translate(PUNCTUATION)).split()

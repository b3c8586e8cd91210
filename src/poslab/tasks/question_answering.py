"""The task of finding the answer to a question in a text."""

from __future__ import annotations

import re
import string
from collections import Counter

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchmetrics import MeanMetric

from poslab.data.batch import IGNORE, SpanBatch
from poslab.models import Outputs
from poslab.tasks.task import Measurement, Observation, Sums, Task

LONGEST_ANSWER = 30
"""Tokens."""

PUNCTUATION = str.maketrans("", "", string.punctuation)
ARTICLE = re.compile(r"\b(a|an|the)\b")


class QuestionAnswering(Task):
    """Tell the first and the last token of the answer, or that there is none.

    The loss of an example is the mean of the cross-entropies of the two. `exact_match` and `f1`, from 0 to 100, are
    SQuAD's: against the best of the right answers, articles, punctuation and case aside.

    Source: Devlin et al., "BERT" (2019), sections 4.2 and 4.3; Rajpurkar et al., "SQuAD" (2016).
    """

    headline = "accuracy"
    shown = validated = ("exact_match", "f1", "accuracy", "loss")
    outputs = Outputs(2, pooled=False)

    def sums(self, model: nn.Module, batch: SpanBatch) -> Sums:
        return self._sums(self._log_p(model, batch), batch)

    def observe(self, model: nn.Module, batch: SpanBatch, split: str) -> Observation:
        log_p_BT2 = self._log_p(model, batch)
        counts = (batch.spans[:, 0] != IGNORE).tolist()
        told = [context.between(*span) for context, span in zip(batch.contexts, best_spans(log_p_BT2), strict=True)]
        answers = [(ours, right) for ours, right, counted in zip(told, batch.right, counts, strict=True) if counted]
        return Observation(self._sums(log_p_BT2, batch), answers)

    def measurement(self, split: str) -> Measurement:
        return AnswersMeasurement(self, split)

    def _log_p(self, model: nn.Module, batch: SpanBatch) -> Tensor:
        """Log probabilities of each token to be the first and the last of the answer, (B, T, 2)."""
        logits_BT2 = model(batch.tokens, real=batch.real).float()
        lowest = torch.finfo(logits_BT2.dtype).min
        log_p_BT2: Tensor = logits_BT2.masked_fill(~batch.answerable.unsqueeze(-1), lowest).log_softmax(1)
        return log_p_BT2

    def _sums(self, log_p_BT2: Tensor, batch: SpanBatch) -> Sums:
        losses_B2 = functional.nll_loss(log_p_BT2, batch.spans, ignore_index=IGNORE, reduction="none")
        right_B = (log_p_BT2.detach().argmax(1) == batch.spans).all(-1)
        return Sums(losses_B2.mean(-1).sum(), right_B.sum(), (batch.spans[:, 0] != IGNORE).sum())


def best_spans(log_p_BT2: Tensor, longest: int = LONGEST_ANSWER) -> list[tuple[int, int]]:
    """The most probable first and last token of each row, of those that make a span of up to so many tokens."""
    length = log_p_BT2.shape[1]
    together_BTT = log_p_BT2[..., 0].unsqueeze(2) + log_p_BT2[..., 1].unsqueeze(1)
    fits_TT = torch.ones(length, length, dtype=torch.bool, device=log_p_BT2.device).triu().tril(longest - 1)
    fits_TT[0, 1:] = False  # the first token is no part of an answer
    best_B = together_BTT.masked_fill(~fits_TT, -torch.inf).flatten(1).argmax(-1)
    return [(int(place) // length, int(place) % length) for place in best_B]


class AnswersMeasurement(Measurement):
    """Loss and accuracy of tokens, exact match and F1 of answers."""

    def __init__(self, task: Task, split: str) -> None:
        super().__init__(task, split)
        self.exact_match = MeanMetric()
        self.f1 = MeanMetric()

    def update(self, observation: Observation) -> None:
        super().update(observation)
        for told, right in observation.answers:
            exact_match, f1 = likeness(told, right)
            self.exact_match.update(exact_match)
            self.f1.update(f1)

    def figures(self) -> dict[str, float]:
        exact_match, f1 = self.exact_match.compute().item(), self.f1.compute().item()
        return {**super().figures(), "exact_match": exact_match, "f1": f1}


def likeness(told: str, right: list[str]) -> tuple[float, float]:
    """Return exact match and F1 of an answer, 0 to 100, by the rules of SQuAD's script of version 1.1.

    Two texts that are nothing but articles and punctuation match, and share no word: their F1 is 0. Where there is no
    answer, or none is given, both figures are 100 or 0 (SQuAD 2).

    Args:
        told: the answer that is given; an empty text is none.
        right: the answers that count as right; none where the question has none.
    """
    if not told or not right:
        agree = 100.0 * (not told and not right)
        return agree, agree
    words, references = _words(told), [_words(answer) for answer in right]
    return 100.0 * (words in references), max(_f1(words, reference) for reference in references)


def _words(text: str) -> list[str]:
    """Return the words of a text without case, punctuation and articles."""
    return ARTICLE.sub(" ", text.lower().translate(PUNCTUATION)).split()


def _f1(words: list[str], reference: list[str]) -> float:
    shared = (Counter(words) & Counter(reference)).total()
    return 200.0 * shared / (len(words) + len(reference)) if shared else 0.0

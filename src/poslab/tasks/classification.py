"""The task of predicting the class of a text, or all of its classes.

Dimension letters: B texts, T tokens, C classes, N texts that count.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from torchmetrics import Metric

from poslab.arguments import with_checked_arguments
from poslab.data.batch import IGNORE, padded
from poslab.data.examples.classification import CLASSES
from poslab.data.kinds import ReadingOptions, Rows
from poslab.data.tokenizers import Tokenizer
from poslab.models import Model, Outputs
from poslab.tasks.measurement import Measurement, NamedOutputs, Sums
from poslab.tasks.task import Prediction, Search, Task, device_of


class ClassBatch(NamedTuple):
    """Texts and their classes."""

    tokens: Tensor  # token ids, (B, T) int64
    real: Tensor  # (B, T) bool, False at padding
    # (B,) int64, `IGNORE` in rows that do not count; where a text may have several classes, (B, C) int64, 1 for each
    # that it has and 0 for the others
    classes: Tensor


@with_checked_arguments
@dataclass(frozen=True, kw_only=True)
class ClassesRecord(NamedOutputs):
    """The record of a classification.

    Args:
        two_texts: True if two texts are classified together.
        several: True if a text may have several classes.
        others: as in `NamedOutputs`.
    """

    two_texts: bool = False
    several: bool = False


class ClassPrediction(Task):
    """Predict the one class of each example, whatever a model reads; classes are in the order of their numbers."""

    needs = frozenset({"pooled"})
    predicts_tokens = False

    headline = chosen_by = "accuracy"  # the loss soon rises again, from examples that are wrong with confidence
    shown = validated = ("accuracy", "macro_f1", "mcc", "loss")

    def __init__(self, classes: Sequence[str]) -> None:
        self.classes = list(classes)
        self.number = {name: number for number, name in enumerate(classes)}
        self.outputs = Outputs(len(classes), pooled=True)

    def sums(self, logits_BC: Tensor, batch: Any) -> Sums:
        loss = functional.cross_entropy(logits_BC, batch.classes, ignore_index=IGNORE, reduction="sum")
        correct = (logits_BC.detach().argmax(-1) == batch.classes).sum()
        return Sums(loss, correct, (batch.classes != IGNORE).sum())

    def distributions(self, logits_BC: Tensor, batch: Any) -> tuple[Tensor, Tensor]:
        return logits_BC, (batch.classes != IGNORE).float()

    def answers(self, logits_BC: Tensor, batch: Any) -> list[tuple[Tensor, Tensor]]:
        """Return the predicted and the actual classes of the examples that count."""
        counts = batch.classes != IGNORE
        return [(logits_BC[counts].argmax(-1), batch.classes[counts])]

    def metrics(self, split: str) -> Measurement:
        return Measurement(self, split, ClassCounts(len(self.classes)))

    def _counted(self, labels: Sequence[Any], counts: np.ndarray) -> Tensor:
        """Return the numbers of labels, `IGNORE` in rows that do not count."""
        classes = self._numbers(labels)
        classes[torch.from_numpy(~counts)] = IGNORE
        return classes

    def _numbers(self, labels: Sequence[Any]) -> Tensor:
        return torch.tensor([self.number[name] for name in labels])

    def _prediction(self, logits_C: Tensor) -> Prediction:
        ranked = self._ranked(logits_C.softmax(-1))
        return Prediction(next(iter(ranked)), ranked)

    def _ranked(self, p_C: Tensor) -> dict[str, float]:
        return dict(sorted(zip(self.classes, p_C.tolist(), strict=True), key=lambda pair: -pair[1]))


class Classification(ClassPrediction):
    """Predict the one class of each text, or of two texts together.

    A text has at most `max_length` tokens; a longer one loses its end, but for the last token.
    """

    kind = CLASSES
    record_type = ClassesRecord

    several: ClassVar[bool] = False  # True if a text may have several classes

    columns = ("tokens", "label")

    def __init__(self, classes: Sequence[str], two_texts: bool, tokenizer: Tokenizer, max_length: int) -> None:
        super().__init__(classes)
        self.two_texts = two_texts
        self.tokenizer = tokenizer
        self.max_length = max_length

    @classmethod
    def of(cls, data: Any) -> Classification:
        form = MultiLabelClassification if data.splits.facts.several_classes else Classification
        return form(data.splits.facts.classes, data.splits.facts.two_texts, data.tokenizer, data.source.longest)

    @classmethod
    def restored(cls, record: ClassesRecord, tokenizer: Any, source: Any) -> Classification:
        if record.outputs != (len(record.classes), True):
            raise ValueError("it has learned no classes")
        form = MultiLabelClassification if record.several else Classification
        return form(record.classes, record.two_texts, tokenizer, source.longest)

    def record(self) -> ClassesRecord:
        return ClassesRecord(outputs=self.outputs, classes=self.classes, two_texts=self.two_texts, several=self.several)

    def collate(self, rows: Rows, counts: np.ndarray) -> ClassBatch:
        tokens, real = padded([self._cut(row) for row in rows["tokens"]])
        return ClassBatch(tokens, real, self._counted(rows["label"], counts))

    def _cut(self, tokens: Sequence[int]) -> np.ndarray:
        row = np.asarray(tokens)
        return row if len(row) <= self.max_length else np.append(row[: self.max_length - 1], row[-1])

    def logits(self, model: Model, batch: ClassBatch) -> Tensor:
        logits_BC: Tensor = model(batch.tokens, real=batch.real)
        return logits_BC.float()

    def first_tokens(self, batch: ClassBatch, length: int) -> ClassBatch:
        if batch.tokens.shape[1] <= length:
            return batch
        is_cut = batch.real[:, length:].any(-1).view(-1, *[1] * (batch.classes.dim() - 1))
        classes = batch.classes.masked_fill(is_cut, IGNORE)  # an index would fail under the vmap of private steps
        return ClassBatch(batch.tokens[:, :length], batch.real[:, :length], classes)

    @torch.no_grad()
    def predict(self, model: Model, text: str, search: Search) -> Prediction:
        names = ("text", "text_pair") if self.two_texts else ("text",)
        if self.two_texts and "\t" not in text:
            raise ValueError("prompt must be two texts that are separated by a tab, as the model has learned")
        texts = {name: [part] for name, part in zip(names, text.split("\t", len(names) - 1), strict=True)}
        rows = self.kind.tokenise(texts, self.tokenizer, ReadingOptions())
        tokens, real = padded([self._cut(row) for row in rows["tokens"]])
        device = device_of(model)
        return self._prediction(model(tokens.to(device), real=real.to(device))[0].float())

    def example_prompt(self) -> str:
        return r"$'one text\tanother text'" if self.two_texts else '"some text"'


class MultiLabelClassification(Classification):
    """Predict every class whose probability is at least 0.5, which may be several or none.

    The loss of an example is the mean over the classes of the binary cross-entropy; accuracy is the share of examples
    for which exactly their classes are predicted, in per cent.
    """

    several = True

    def _numbers(self, labels: Sequence[Any]) -> Tensor:
        classes = torch.zeros(len(labels), len(self.number), dtype=torch.int64)
        for row, names in enumerate(labels):
            classes[row, [self.number[name] for name in names]] = 1
        return classes

    def sums(self, logits_BC: Tensor, batch: ClassBatch) -> Sums:
        counts_B = batch.classes[:, 0] != IGNORE
        losses_BC = functional.binary_cross_entropy_with_logits(
            logits_BC, batch.classes.clamp_min(0).float(), reduction="none"
        )
        right_B = ((logits_BC.detach() >= 0) == (batch.classes == 1)).all(-1)
        return Sums(losses_BC.mean(-1)[counts_B].sum(), (right_B & counts_B).sum(), counts_B.sum())

    def distributions(self, logits_BC: Tensor, batch: ClassBatch) -> tuple[Tensor, Tensor]:
        """Return the distribution of "no" and "yes" for each class, whose logit belongs to "yes"."""
        weight_BC = (batch.classes != IGNORE).float() / batch.classes.shape[1]
        return torch.stack([torch.zeros_like(logits_BC), logits_BC], dim=-1), weight_BC

    def answers(self, logits_BC: Tensor, batch: ClassBatch) -> list[tuple[Tensor, Tensor]]:
        counts = batch.classes[:, 0] != IGNORE
        return [((logits_BC >= 0).long()[counts], batch.classes[counts])]

    def metrics(self, split: str) -> Measurement:
        return Measurement(self, split, LabelCounts(len(self.classes)))

    def _prediction(self, logits_C: Tensor) -> Prediction:
        ranked = self._ranked(logits_C.sigmoid())
        return Prediction(", ".join(name for name, p in ranked.items() if p >= 0.5), ranked)


class ClassCounts(Metric):
    """Counts of each class over all batches and processes, for macro F1 and Matthews' coefficient.

    Their memory grows with the number of classes, a confusion matrix's with its square.
    """

    full_state_update = False

    right: Tensor
    predicted: Tensor
    actual: Tensor
    total: Tensor

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        for name in ("right", "predicted", "actual"):
            self.add_state(name, torch.zeros(num_classes, dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("total", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, predicted_N: Tensor, actual_N: Tensor) -> None:
        """Count examples by their predicted and actual classes, (N,) int64 both."""
        size = len(self.right)
        self.right += actual_N[predicted_N == actual_N].bincount(minlength=size)
        self.predicted += predicted_N.bincount(minlength=size)
        self.actual += actual_N.bincount(minlength=size)
        self.total += len(actual_N)

    def compute(self) -> dict[str, float]:
        """Return macro F1, 0 to 100, over the classes that were predicted or actual, and `matthews`."""
        right_C, predicted_C, actual_C = (x.cpu().double() for x in (self.right, self.predicted, self.actual))
        f1_C = 2 * right_C / (predicted_C + actual_C)  # NaN of a class that was neither
        mcc = matthews(right_C.sum(), self.total.cpu().double(), predicted_C, actual_C)
        return {"macro_f1": 100 * f1_C.nanmean().item(), "mcc": mcc}


class LabelCounts(ClassCounts):
    """Counts of each class where an example may have several or none."""

    def update(self, predicted_NC: Tensor, actual_NC: Tensor) -> None:
        """Count examples by their predicted and actual classes, 1 for each that they have, (N, C) int64 both."""
        self.right += (predicted_NC & actual_NC).sum(0)
        self.predicted += predicted_NC.sum(0)
        self.actual += actual_NC.sum(0)
        self.total += len(actual_NC)

    def compute(self) -> dict[str, float]:
        """Return macro F1, 0 to 100, in which a class without examples counts 0, and `matthews` of yes and no."""
        right_C, predicted_C, actual_C = (x.cpu().double() for x in (self.right, self.predicted, self.actual))
        f1_C = 2 * right_C / (predicted_C + actual_C).clamp_min(1)
        decisions = self.total.cpu().double() * len(right_C)
        predicted_2, actual_2 = (torch.stack([x.sum(), decisions - x.sum()]) for x in (predicted_C, actual_C))
        agreed = decisions - predicted_C.sum() - actual_C.sum() + 2 * right_C.sum()
        return {"macro_f1": 100 * f1_C.mean().item(), "mcc": matthews(agreed, decisions, predicted_2, actual_2)}


def matthews(right: Tensor, total: Tensor, predicted_C: Tensor, actual_C: Tensor) -> float:
    """Return Matthews' correlation coefficient of several classes, -100 to 100; 0 is chance (Gorodkin 2004, eq. 8).

    It is 0 where only one class was predicted, or is actual. Arguments are numbers of examples, by class those
    predicted and actual.
    """
    spread = torch.sqrt((total**2 - predicted_C @ predicted_C) * (total**2 - actual_C @ actual_C))
    return 100 * ((right * total - predicted_C @ actual_C) / spread).item() if spread > 0 else 0.0

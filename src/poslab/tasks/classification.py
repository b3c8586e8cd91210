"""The task of telling the class of a text, or all of its classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchmetrics import Metric
from torchmetrics.classification import (
    MulticlassConfusionMatrix,
    MulticlassF1Score,
    MultilabelConfusionMatrix,
    MultilabelF1Score,
)

from poslab.data.batch import IGNORE, ClassBatch
from poslab.models import Outputs
from poslab.tasks.task import Measurement, Observation, Sums, Task


class Classification(Task):
    """Tell the one class of each text.

    Args:
        classes: their names, in the order of their numbers.
        two_texts: whether what is classified are two texts.
    """

    several: ClassVar[bool] = False
    """Whether a text may have several classes."""

    headline = chosen_by = "accuracy"  # the loss of a class soon rises again, of texts that are told wrong too surely
    shown = validated = ("accuracy", "macro_f1", "mcc", "loss")

    def __init__(self, classes: Sequence[str], two_texts: bool = False) -> None:
        self.classes = classes
        self.two_texts = two_texts
        self.outputs = Outputs(len(classes), pooled=True)

    def record(self) -> dict[str, Any]:
        return {**super().record(), "classes": list(self.classes), "two_texts": self.two_texts, "several": self.several}

    def sums(self, model: nn.Module, batch: ClassBatch) -> Sums:
        return self._sums(model(batch.tokens, real=batch.real).float(), batch)

    def observe(self, model: nn.Module, batch: ClassBatch, split: str) -> Observation:
        logits_BC = model(batch.tokens, real=batch.real).float()
        counts = batch.classes != IGNORE
        return Observation(self._sums(logits_BC, batch), (logits_BC[counts].argmax(-1), batch.classes[counts]))

    def measurement(self, split: str) -> Measurement:
        count = len(self.classes)
        return ClassificationMeasurement(
            self,
            split,
            MulticlassF1Score(count, average="macro"),
            MulticlassMatthews(count),
        )

    def _sums(self, logits_BC: Tensor, batch: ClassBatch) -> Sums:
        loss = functional.cross_entropy(logits_BC, batch.classes, ignore_index=IGNORE, reduction="sum")
        correct = (logits_BC.detach().argmax(-1) == batch.classes).sum()
        return Sums(loss, correct, (batch.classes != IGNORE).sum())


class MultiLabelClassification(Classification):
    """Tell all classes of each text, which may be several or none; one that is as probable as not is told.

    The loss of an example is the mean over the classes of the binary cross-entropy; accuracy is the share of examples
    of which all classes and no other are told.
    """

    several = True

    def observe(self, model: nn.Module, batch: ClassBatch, split: str) -> Observation:
        logits_BC = model(batch.tokens, real=batch.real).float()
        counts = batch.classes[:, 0] != IGNORE
        told_BC = (logits_BC >= 0).long()
        return Observation(self._sums(logits_BC, batch), (told_BC[counts], batch.classes[counts]))

    def measurement(self, split: str) -> Measurement:
        count = len(self.classes)
        return ClassificationMeasurement(
            self,
            split,
            MultilabelF1Score(count, average="macro"),
            MultilabelMatthews(count),
        )

    def _sums(self, logits_BC: Tensor, batch: ClassBatch) -> Sums:
        counts_B = batch.classes[:, 0] != IGNORE
        losses_BC = functional.binary_cross_entropy_with_logits(
            logits_BC, batch.classes.clamp_min(0).float(), reduction="none"
        )
        right_B = ((logits_BC.detach() >= 0) == (batch.classes == 1)).all(-1)
        return Sums(losses_BC.mean(-1)[counts_B].sum(), (right_B & counts_B).sum(), counts_B.sum())


def matthews(counts_CC: Tensor) -> Tensor:
    """Matthews' correlation coefficient of several classes, from -1 to 1 (Gorodkin 2004, eq. 8).

    It is 0 where only one class was told or is there, of which torchmetrics makes another number for two classes.

    Args:
        counts_CC: how many examples are of one class and were told to be of another.
    """
    counts_CC = counts_CC.cpu().double()  # which not every device has
    right, total = counts_CC.trace(), counts_CC.sum()
    there_C, told_C = counts_CC.sum(1), counts_CC.sum(0)
    spread = torch.sqrt((total**2 - told_C @ told_C) * (total**2 - there_C @ there_C))
    return torch.where(spread > 0, (right * total - told_C @ there_C) / spread, 0.0)


class MulticlassMatthews(MulticlassConfusionMatrix):
    """`matthews` of the one class of each example."""

    def compute(self) -> Tensor:
        return matthews(super().compute())


class MultilabelMatthews(MultilabelConfusionMatrix):
    """`matthews` of whether an example has a class, over all examples and classes."""

    def compute(self) -> Tensor:
        return matthews(super().compute().sum(0))


class ClassificationMeasurement(Measurement):
    """Loss, accuracy, macro F1 and Matthews' correlation coefficient.

    Args:
        task, split: as of `Measurement`.
        f1: macro F1: the mean over the classes, however many examples each has.
        mcc: Matthews' correlation coefficient, from -1 to 1; 0 is chance.
    """

    def __init__(self, task: Task, split: str, f1: Metric, mcc: Metric) -> None:
        super().__init__(task, split)
        self.f1 = f1
        self.mcc = mcc

    def update(self, observation: Observation) -> None:
        super().update(observation)
        told, classes = observation.answers
        if len(classes):
            self.f1.update(told, classes)
            self.mcc.update(told, classes)

    def figures(self) -> dict[str, float]:
        return {**super().figures(), "macro_f1": self.f1.compute().item(), "mcc": self.mcc.compute().item()}

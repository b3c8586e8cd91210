"""The task of telling the class of a text, or all of its classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchmetrics import Metric

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
        return ClassificationMeasurement(self, split, ClassCounts(len(self.classes)))

    def _sums(self, logits_BC: Tensor, batch: ClassBatch) -> Sums:
        loss = functional.cross_entropy(logits_BC, batch.classes, ignore_index=IGNORE, reduction="sum")
        correct = (logits_BC.detach().argmax(-1) == batch.classes).sum()
        return Sums(loss, correct, (batch.classes != IGNORE).sum())


class MultiLabelClassification(Classification):
    """Predict every class whose probability is at least 0.5, which may be several or none.

    The loss of an example is the mean over the classes of the binary cross-entropy; accuracy is the share of examples
    of which all classes and no other are predicted, in per cent.
    """

    several = True

    def observe(self, model: nn.Module, batch: ClassBatch, split: str) -> Observation:
        logits_BC = model(batch.tokens, real=batch.real).float()
        counts = batch.classes[:, 0] != IGNORE
        told_BC = (logits_BC >= 0).long()
        return Observation(self._sums(logits_BC, batch), (told_BC[counts], batch.classes[counts]))

    def measurement(self, split: str) -> Measurement:
        return ClassificationMeasurement(self, split, LabelCounts(len(self.classes)))

    def _sums(self, logits_BC: Tensor, batch: ClassBatch) -> Sums:
        counts_B = batch.classes[:, 0] != IGNORE
        losses_BC = functional.binary_cross_entropy_with_logits(
            logits_BC, batch.classes.clamp_min(0).float(), reduction="none"
        )
        right_B = ((logits_BC.detach() >= 0) == (batch.classes == 1)).all(-1)
        return Sums(losses_BC.mean(-1)[counts_B].sum(), (right_B & counts_B).sum(), counts_B.sum())


class ClassCounts(Metric):
    """Counts of each class over all batches and processes, of which macro F1 and Matthews' coefficient follow.

    They take memory for each class and not for each pair of classes, as a confusion matrix does.

    Args:
        num_classes: C.
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
        """Count examples, of each of which this class was predicted and that one is right, (N,) int64 both."""
        size = len(self.right)
        self.right += actual_N[predicted_N == actual_N].bincount(minlength=size)
        self.predicted += predicted_N.bincount(minlength=size)
        self.actual += actual_N.bincount(minlength=size)
        self.total += len(actual_N)

    def compute(self) -> tuple[float, float]:
        """Return macro F1, 0 to 100, over the classes that were predicted or are there, and `matthews`."""
        right_C, predicted_C, actual_C = (x.cpu().double() for x in (self.right, self.predicted, self.actual))
        f1_C = 2 * right_C / (predicted_C + actual_C)  # NaN of a class that was neither
        return 100 * f1_C.nanmean().item(), matthews(right_C.sum(), self.total.cpu().double(), predicted_C, actual_C)


class LabelCounts(ClassCounts):
    """Counts of each class where an example may have several or none."""

    def update(self, predicted_NC: Tensor, actual_NC: Tensor) -> None:
        """Count examples, 1 for each class that was predicted or is right, (N, C) int64 both."""
        self.right += (predicted_NC & actual_NC).sum(0)
        self.predicted += predicted_NC.sum(0)
        self.actual += actual_NC.sum(0)
        self.total += len(actual_NC)

    def compute(self) -> tuple[float, float]:
        """Return macro F1, 0 to 100, in which a class without examples counts 0, and `matthews` of yes and no."""
        right_C, predicted_C, actual_C = (x.cpu().double() for x in (self.right, self.predicted, self.actual))
        f1_C = 2 * right_C / (predicted_C + actual_C).clamp_min(1)
        decisions = self.total.cpu().double() * len(right_C)
        predicted_2, actual_2 = (torch.stack([x.sum(), decisions - x.sum()]) for x in (predicted_C, actual_C))
        agreed = decisions - predicted_C.sum() - actual_C.sum() + 2 * right_C.sum()
        return 100 * f1_C.mean().item(), matthews(agreed, decisions, predicted_2, actual_2)


def matthews(right: Tensor, total: Tensor, predicted_C: Tensor, actual_C: Tensor) -> float:
    """Return Matthews' correlation coefficient of several classes, -100 to 100; 0 is chance (Gorodkin 2004, eq. 8).

    It is 0 where one class alone was predicted or is there.

    Args:
        right: examples whose class was predicted.
        total: all examples.
        predicted_C, actual_C: examples of each class.
    """
    spread = torch.sqrt((total**2 - predicted_C @ predicted_C) * (total**2 - actual_C @ actual_C))
    return 100 * ((right * total - predicted_C @ actual_C) / spread).item() if spread > 0 else 0.0


class ClassificationMeasurement(Measurement):
    """Loss, accuracy, macro F1 and Matthews' correlation coefficient.

    Args:
        task, split: as of `Measurement`.
        counts: of each class.
    """

    def __init__(self, task: Task, split: str, counts: ClassCounts) -> None:
        super().__init__(task, split)
        self.counts = counts

    def update(self, observation: Observation) -> None:
        super().update(observation)
        self.counts.update(*observation.answers)

    def figures(self) -> dict[str, float]:
        macro_f1, mcc = self.counts.compute()
        return {**super().figures(), "macro_f1": macro_f1, "mcc": mcc}

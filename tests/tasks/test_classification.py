"""Metrics of classifications are what their definitions say, also where a class is missing, and take little memory."""

import math

import numpy as np
import pytest
import torch

from poslab.data.batch import IGNORE
from poslab.data.tokenizers import ByteTokenizer
from poslab.models import Outputs
from poslab.tasks.classification import ClassBatch, ClassCounts, ClassesRecord, Classification, LabelCounts


def f1(predicted: list[int], actual: list[int]) -> float | None:
    """Of yes and no, by counting; None where nobody said yes."""
    hits = misses = 0
    for item, other in zip(predicted, actual, strict=True):
        if item == 1 == other:
            hits += 1
        elif item != other:
            misses += 1
    return 2 * hits / (2 * hits + misses) if hits + misses else None


def correlation(predicted: np.ndarray, actual: np.ndarray) -> float:
    """Of columns of 0 and 1, over all of them; 0 where one side does not vary."""
    item, other = (columns - columns.mean(0) for columns in (predicted, actual))
    spread = math.sqrt((item**2).sum() * (other**2).sum())
    return (item * other).sum() / spread if spread > 1e-9 else 0.0


def computed(counts: ClassCounts, predicted: np.ndarray, actual: np.ndarray) -> list[float]:
    """Macro F1 and Matthews' coefficient of examples that come in two parts and an empty one."""
    middle = len(predicted) // 3
    for part in (slice(0, middle), slice(0, 0), slice(middle, None)):
        counts.update(torch.from_numpy(predicted[part]), torch.from_numpy(actual[part]))
    return list(counts.compute().values())


@pytest.mark.parametrize("seed", range(40))
def test_metrics_of_one_class_each_are_those_of_a_loop(seed):
    """Also where classes are never predicted, never there, or neither, and where there is one class alone."""
    generator = np.random.default_rng(seed)
    size = int(generator.integers(1, 6))
    there, told = (generator.choice(size, int(generator.integers(1, size + 1)), replace=False) for _ in range(2))
    actual = generator.choice(there, 60)
    predicted = np.where(generator.random(60) < 0.5, actual, generator.choice(told, 60))
    of_each = [f1((predicted == c).tolist(), (actual == c).tolist()) for c in range(size)]
    known = [value for value in of_each if value is not None]
    macro_f1, mcc = computed(ClassCounts(size), predicted, actual)
    assert macro_f1 == pytest.approx(100 * sum(known) / len(known), abs=1e-9)
    assert mcc == pytest.approx(100 * correlation(np.eye(size)[predicted], np.eye(size)[actual]), abs=1e-9)


@pytest.mark.parametrize("seed", range(40))
def test_metrics_of_several_labels_are_those_of_a_loop(seed):
    """Also where a label is never there, never predicted, or neither: then its F1 is 0."""
    generator = np.random.default_rng(seed)
    size = int(generator.integers(1, 6))
    shares = generator.choice([0, 0.1, 0.5, 1], size)
    actual = (generator.random((60, size)) < shares).astype(np.int64)
    predicted = np.where(generator.random((60, size)) < 0.6, actual, generator.random((60, size)) < shares[::-1])
    of_each = [f1(predicted[:, c].tolist(), actual[:, c].tolist()) or 0.0 for c in range(size)]
    macro_f1, mcc = computed(LabelCounts(size), predicted.astype(np.int64), actual)
    assert macro_f1 == pytest.approx(100 * sum(of_each) / size, abs=1e-9)
    item, other = predicted.reshape(-1, 1), actual.reshape(-1, 1)
    assert mcc == pytest.approx(100 * correlation(item, other), abs=1e-9)


@pytest.mark.parametrize(
    ("actual", "predicted"), [([0] * 9 + [1], [0] * 10), ([0] * 10, [0] * 10), ([0] * 10, [1] * 10)]
)
def test_matthews_is_0_where_one_class_alone_is_predicted_or_there(actual, predicted):
    assert computed(ClassCounts(2), np.array(predicted), np.array(actual))[1] == 0


def test_100_000_classes_need_counts_alone():
    """And no matrix of 80 GB. Odd classes are right once of the twice that they come, and even ones never."""
    counts, classes = ClassCounts(100_000), torch.arange(100_000)
    counts.update(classes, classes.roll(1).where(classes % 2 == 0, classes))
    macro_f1, mcc = counts.compute().values()
    assert sum(state.numel() for state in counts.metric_state.values()) == 300_001
    assert macro_f1 == pytest.approx(100 * (2 / 3 + 0) / 2) and mcc == pytest.approx(50, abs=0.01)


def test_the_record_of_a_model_that_does_not_classify_is_refused():
    record = ClassesRecord(outputs=Outputs(2, pooled=False), classes=["B-PER", "O"])
    with pytest.raises(ValueError, match=r"^it has learned no classes$"):
        Classification.restored(record, ByteTokenizer(), None)


@pytest.mark.parametrize("several", [False, True])
def test_rows_that_a_teacher_reads_in_part_do_not_count_one_by_one_either(several):
    """As private steps read them: a function of one row, for all rows at once."""
    real = torch.tensor([[True] * 3, [True, True, False], [True, False, False]])
    classes = torch.tensor([[1, 0], [0, 1], [1, 1]]) if several else torch.tensor([1, 0, 1])
    task = Classification(["no", "yes"], False, ByteTokenizer(), 3)

    def first(real_T, classes):
        return task.first_tokens(ClassBatch(real_T[None].long(), real_T[None], classes[None]), 2).classes[0]

    expected = classes.clone()
    expected[0] = IGNORE
    assert torch.equal(torch.vmap(first)(real, classes), expected)
    assert torch.equal(task.first_tokens(ClassBatch(real.long(), real, classes), 2).classes, expected)

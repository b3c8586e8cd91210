"""Figures of classifications are what their definitions say, also where a class is missing."""

import numpy as np
import pytest
import torch

from poslab.tasks.classification import MulticlassMatthews, MultilabelMatthews


@pytest.mark.parametrize("count", [2, 3, 5])
def test_matthews_is_the_correlation_of_what_was_told_with_what_is_there(count):
    """Over all classes, as columns of 0 and 1."""
    generator = np.random.default_rng(count)
    there, told = generator.integers(0, count, 200), generator.integers(0, count, 200)
    told[:120] = there[:120]
    one, other = (np.eye(count)[numbers] - np.eye(count)[numbers].mean(0) for numbers in (there, told))
    expected = (one * other).sum() / np.sqrt((one**2).sum() * (other**2).sum())
    metric = MulticlassMatthews(count)
    for half in (slice(0, 90), slice(90, 200)):
        metric.update(torch.from_numpy(told[half]), torch.from_numpy(there[half]))
    assert metric.compute().item() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(("there", "told"), [([0] * 9 + [1], [0] * 10), ([0] * 10, [0] * 10), ([0] * 10, [1] * 10)])
def test_matthews_is_0_where_one_class_alone_is_told_or_there(there, told):
    metric = MulticlassMatthews(2)
    metric.update(torch.tensor(told), torch.tensor(there))
    assert metric.compute().item() == 0


def test_matthews_of_several_labels_is_the_correlation_over_all_of_them_and_0_where_none_is_told():
    generator = np.random.default_rng(0)
    there, told = generator.integers(0, 2, (100, 3)), generator.integers(0, 2, (100, 3))
    told[:60] = there[:60]
    metric = MultilabelMatthews(3)
    metric.update(torch.from_numpy(told), torch.from_numpy(there))
    assert metric.compute().item() == pytest.approx(np.corrcoef(told.ravel(), there.ravel())[0, 1], abs=1e-12)
    metric.reset()
    metric.update(torch.zeros(100, 3, dtype=torch.long), torch.from_numpy(there))
    assert metric.compute().item() == 0

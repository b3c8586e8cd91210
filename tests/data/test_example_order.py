"""Examples come once a pass, in batches of about the same length, and the order is a function of the seed."""

from collections.abc import Sequence

import numpy as np
import pytest

from poslab.data.order import BatchPlan, ExampleOrder
from poslab.data.python_docs import PythonDocs

LENGTHS = np.random.default_rng(0).integers(1, 400, size=1003)


def test_every_pass_takes_each_example_once():
    order = ExampleOrder(LENGTHS, 16, seed=1)
    for number in range(4):
        assert sorted(order.items(range(number * 1003, (number + 1) * 1003))) == list(range(1003))


def test_a_batch_of_the_run_has_examples_of_about_the_same_length():
    order = ExampleOrder(LENGTHS, 16, seed=1)
    spreads = [np.ptp(LENGTHS[order.items(range(step * 16, step * 16 + 16))]) for step in range(200)]
    assert np.median(spreads) < 15  # of some 380 in random order


def test_batches_are_not_in_the_order_of_length():
    order = ExampleOrder(LENGTHS, 16, seed=1)
    means = [LENGTHS[order.items(range(step * 16, step * 16 + 16))].mean() for step in range(40)]
    assert abs(np.corrcoef(means, np.arange(40))[0, 1]) < 0.5


def test_the_order_can_be_entered_anywhere_and_depends_on_the_seed():
    whole = ExampleOrder(LENGTHS, 16, seed=1).items(range(2500))
    assert ExampleOrder(LENGTHS, 16, seed=1).items(range(1990, 2500)) == whole[1990:]
    assert ExampleOrder(LENGTHS, 16, seed=2).items(range(2500)) != whole
    assert whole[:1003] != whole[1003:2006]


def test_the_first_batch_over_and_over():
    order = ExampleOrder(LENGTHS, 16, seed=1, repeat=16)
    assert order.items(range(16)) == order.items(range(160, 176))


@pytest.mark.parametrize("count", [1, 3, 15, 16, 17])
def test_fewer_examples_than_batches_take_are_taken_again(count):
    order = ExampleOrder(LENGTHS[:count], 16, seed=1)
    taken = order.items(range(count * 5))
    assert sorted(taken) == sorted(list(range(count)) * 5)


@pytest.mark.parametrize(("overfit", "independently"), [(False, False), (True, False), (False, True)])
def test_the_loader_of_examples_reads_them_as_its_source_says(overfit: bool, independently: bool) -> None:
    class Numbers:
        def __getitems__(self, numbers: Sequence[int]) -> list[int]:
            return list(numbers)

    source = PythonDocs(batch_size=4, overfit=overfit)
    plan = BatchPlan(batch_size=4, last_step=8, draws_independently=independently)
    batches = list(source.example_loader(Numbers(), np.arange(1, 17), plan))
    if independently:  # a row may be in no step, or in several
        assert len({len(batch) for batch in batches}) > 1
    elif overfit:
        assert all(sorted(batch) == sorted(batches[0]) for batch in batches)
    else:
        assert all(sorted(np.concatenate(batches[step : step + 4])) == list(range(16)) for step in (0, 4))

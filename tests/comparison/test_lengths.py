"""Lengths of a test, which the data must have before anything is trained."""

from __future__ import annotations

import pytest

from poslab.comparison.lengths import checked_lengths
from poslab.data.run_data import RunData
from poslab.runs.recipe import Recipe
from poslab.tasks.task import Task
from poslab.training.components import prepared_data
from tests.comparison.comparisons import comparison
from tests.training.runs import composed, small


def lengths_of(config, metric, lengths):
    """The checked lengths of a case on this data."""
    recipe = Recipe.of(config)
    data: RunData = prepared_data(recipe)
    task: type[Task] = recipe.task
    case = {"train": {}, "lengths": lengths, "metrics": {metric: {"direction": "minimize"}}}
    return checked_lengths(comparison(cases={"this": case}), "this", task, data)


def test_multiples_are_of_the_training_length(tmp_path):
    assert lengths_of(small(tmp_path), "bits_per_byte@2x", ["1x", 32, "4x"]) == [16, 32, 64]


def test_a_window_longer_than_the_text_is_one_sentence(tmp_path):
    with pytest.raises(ValueError, match=r"^cases.this: lengths must lie between 1 and \d+, which the text fills"):
        lengths_of(small(tmp_path), "bits_per_byte@1x", ["1x", 100_000])


def test_a_length_of_which_the_test_has_no_example_is_one_sentence():
    config = composed("dataset=copy", "dataset.task.num_words=2", "dataset.train_lengths=[3,8]")
    assert lengths_of(config, "exact_match@8", [8, 12]) == [8, 12]
    with pytest.raises(ValueError, match=r"^cases\.this: lengths must be those of examples of the test, .* none of 1$"):
        lengths_of(config, "exact_match@8", [1, 8])

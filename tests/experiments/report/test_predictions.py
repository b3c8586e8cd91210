"""Predictions of a comparison file beside what was measured."""

from __future__ import annotations

import pytest

from poslab.experiments.mistakes import checked
from poslab.experiments.report.papers import predictions_table
from tests.experiments.comparisons import comparison, results

NODE = {"say": "none is ahead", "of": "none", "case": "copying"}


def outcomes(*nodes, **arguments):
    found = results(**arguments, predictions=[{**NODE, **node} for node in nodes])
    return list(predictions_table(found)["outcome"])


def test_a_prediction_holds_where_the_whole_interval_is_inside_and_fails_where_none_of_it_is():
    mean = results().scores("copying", results().comparison.criteria("copying")[0])["none"].mean
    inside, below, across = {"at_least": mean - 30, "at_most": mean + 30}, {"at_most": mean - 30}, {"at_least": mean}
    assert outcomes(inside, below, across) == ["holds", "does not hold", "inconclusive"]


def test_a_difference_is_predicted_by_a_second_encoding():
    assert outcomes({"minus": "rotary", "at_least": 0}, {"minus": "rotary", "at_most": 0}) == ["holds", "does not hold"]


def test_a_prediction_without_results_is_not_tested():
    assert outcomes({"at_least": 0, "metric": "exact_match@80"}) == ["not tested at this scale"]


@pytest.mark.parametrize(
    ("node", "sentence"),
    [
        ({}, r"predictions\[0\]: at_least must be below at_most, and one of both given"),
        ({"at_least": 2, "at_most": 1}, "at_least must be below at_most"),
        ({"at_least": 0, "case": "copyin"}, r"there is no case copyin; did you mean 'copying'"),
        ({"at_least": 0, "of": "nonne"}, "copying has no nonne; did you mean 'none'"),
        ({"at_least": 0, "minus": "none"}, "of and minus must be different"),
    ],
)
def test_a_mistake_in_a_prediction_is_named(node, sentence):
    with pytest.raises(ValueError, match=sentence):
        checked(comparison(predictions=[{**NODE, **node}]))

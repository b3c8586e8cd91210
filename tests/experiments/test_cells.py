"""Cells of a comparison, and what a database has of them."""

from __future__ import annotations

import pytest

from poslab.experiments.cells import cell_of, result_of
from tests.experiments.comparisons import TUNING, plan


def test_a_metric_beside_those_of_the_task_makes_another_cell_in_the_same_directory():
    more = {"exact_match@beyond": {"direction": "maximize"}, "passkey_loss@4x": {"direction": "minimize"}}
    plain, extra = (made.cell("copying", "none", 1, {}) for made in (plan(), plan(metrics=more)))
    assert extra.extra == ("passkey_loss@40",) and plain.extra == ()
    assert plain.identity != extra.identity and plain.directory == extra.directory


def test_a_cell_of_a_database_is_checked():
    cell = plan(tuning=TUNING).wanted({})[0][0]
    assert cell_of(cell.as_plain_data()) == cell
    for node in (
        None,
        {},
        {**cell.as_plain_data(), "case": "../x"},
        {**cell.as_plain_data(), "seed": "../1"},
        {**cell.as_plain_data(), "after": "runs/../../x"},
    ):
        with pytest.raises(ValueError, match="contains something else than a cell"):
            cell_of(node)


@pytest.mark.parametrize(
    "node",
    [
        *(None, 3, {"price": 1}, {"metrics": {"loss": "x"}}, {"scores": [1]}),
        *({"start": "x"}, {"start": {"batch": ["x"]}}),
    ],
)
def test_a_result_of_a_database_is_checked(node):
    with pytest.raises(ValueError, match="contains something else than a result"):
        result_of(node)

"""Numbers on the pages of results are those of the tables in results/."""

from __future__ import annotations

import re

import pytest
from pages import results

from poslab.experiments.tables import read_runs


@pytest.mark.parametrize("name", results.PAGES)
def test_tables_and_named_numbers_are_those_of_the_results(name):
    page = (results.DOCS / f"{name}.md").read_text(encoding="utf-8")
    assert results.TABLE.search(page)
    assert results.filled(page) == page


def test_a_number_that_is_not_of_the_results_is_replaced():
    text = "rotary 9.99<!-- every_encoding text rotary bits_per_byte@1x -->."
    (value,) = re.findall(r"rotary (\d\.\d\d)<", results.filled(text))
    runs = [run for run in read_runs(results.RESULTS / "every_encoding") if run.encoding == "rotary"]
    assert float(value) == pytest.approx(sum(run.scores["bits_per_byte@128"] for run in runs) / len(runs), abs=0.005)
    with pytest.raises(ValueError, match="no_metric"):
        results.filled("1<!-- every_encoding text rotary no_metric -->")

"""The tuning in a report."""

from __future__ import annotations

from poslab.experiments.report.checks import checks, methods
from poslab.experiments.report.tables import tuned_table
from tests.experiments.comparisons import TUNING, results

OF = {**TUNING, "of": {"slow": {"encoding.fraction": [0.5, 1.0]}}, "trials": 3}


def test_keys_of_one_encoding_are_named():
    frame = methods(results(tuning=OF)).frame
    assert "slow also over encoding.fraction" in set(frame["value"])


def test_a_best_value_at_an_end_is_named():
    made = results(tuning=TUNING, loss=lambda run: run.point["optimizer.lr"] if run.encoding == "slow" else 1.0)
    row = tuned_table(made).frame.set_index("encoding").loc["slow"]
    assert (row["trials"], row["at an end"]) == (3, "optimizer.lr")
    found = checks(made).frame.set_index("check").loc["tuned inside the range"]
    assert not found["holds"] and "slow" in found["found"]


def test_trials_that_failed_are_counted():
    made = results(
        tuning=TUNING, loss=lambda run: None if (rate := run.point["optimizer.lr"]) == 4e-3 else float(rate != 2e-3)
    )
    assert set(tuned_table(made).frame["failed"]) == {1}


def test_an_encoding_whose_trials_all_failed_is_marked_everywhere():
    made = results(
        tuning=TUNING, loss=lambda run: None if run.encoding == "slow" else abs(run.point["optimizer.lr"] - 2e-3)
    )
    row = tuned_table(made).frame.set_index("encoding").loc["slow"]
    assert row["failed"] == row["trials"] == 3
    outcomes = checks(made).frame.set_index("check")
    assert not outcomes["holds"]["tuning found values"]
    assert outcomes["found"]["tuned inside the range"] == "none"

"""The tuning in a report."""

from __future__ import annotations

import io
from dataclasses import replace

import pandas as pd

from poslab.experiments.published import Claim
from poslab.experiments.report.checks import checks, methods
from poslab.experiments.report.papers import outcome
from poslab.experiments.report.tables import (
    best_table,
    expected_best_rows,
    legend,
    overview,
    tuned_table,
    verdict_table,
)
from poslab.experiments.report.write import Needs, recommendations, write
from poslab.experiments.statistics.verdict import Word
from poslab.io.terminal import HarmlessConsole
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


def test_numbers_of_trials_that_differ_are_found():
    made = results(tuning=TUNING)
    assert checks(made).frame.set_index("check")["holds"]["same number of trials"]
    extra = next(replace(run, point={"optimizer.lr": 8e-3}) for run in made.rows if run.is_trial)
    row = checks(replace(made, rows=[*made.rows, extra])).frame.set_index("check").loc["same number of trials"]
    assert not row["holds"] and "none 4" in row["found"]


def test_an_encoding_whose_advantage_is_a_larger_budget_of_tuning_is_not_called_better():
    made = results({"rotary": 50.0, "slow": 80.0, "none": 20.0}, tuning=TUNING)
    criterion = made.comparison.criteria("copying")[0]
    words = {name: v.word for name, v in made.verdicts("copying", criterion, "rotary").items()}
    assert words == {"slow": Word.BETTER, "none": Word.WORSE}

    def with_fourth(encoding, loss):
        trial = next(run for run in made.rows if run.is_trial and run.encoding == encoding)
        extra = replace(trial, point={"optimizer.lr": 8e-3}, metrics={"validation/loss": loss})
        more = replace(made, rows=[*made.rows, extra])
        return {name: v.word for name, v in more.verdicts("copying", criterion, "rotary").items()}

    assert with_fourth("slow", loss=9.0) == words  # the fourth trial changed nothing
    assert with_fourth("slow", loss=-1.0) == {**words, "slow": Word.INCONCLUSIVE}
    assert with_fourth("rotary", loss=-1.0) == {**words, "none": Word.INCONCLUSIVE}


def test_unequal_tuning_is_next_to_each_verdict_that_rests_on_it():
    made = results(tuning=TUNING)
    criterion = made.comparison.criteria("copying")[0]
    assert not any("tuning" in table for table in (best_table(made), verdict_table(made, "copying", criterion)))
    extra = next(replace(run, point={"optimizer.lr": 8e-3}) for run in made.rows if run.is_trial)
    unequal = replace(made, rows=[*made.rows, extra])
    assert best_table(unequal)["tuning"].tolist() == ["not equal: 3 to 4 trials"]
    frame = verdict_table(unequal, "copying", criterion).set_index("encoding")
    assert (frame["tuning"]["none"], frame["verdict"]["none"]) == ("not equal: none 4, rotary 3 trials", "better")
    assert pd.isna(frame["tuning"]["slow"])
    assert next(recommendations(unequal, Needs())).evidence.endswith("tuning not equal: 3 to 4 trials")
    claim = Claim("none is ahead", better="none", than="rotary", case="copying")
    assert outcome(unequal, claim)[1].endswith("tuning not equal: none 4, rotary 3 trials")
    assert "tuning" not in outcome(made, claim)[1]
    assert "Tuning of copying is not equal: 3 to 4 trials." in legend(unequal, overview(unequal))


def test_the_expected_best_is_shown_by_number_of_trials_from_four_on(tmp_path):
    four = {**TUNING, "space": {"optimizer.lr": [1e-3, 2e-3, 4e-3, 8e-3]}}
    made = results(tuning=four, output=str(tmp_path))
    rows = expected_best_rows(made, "copying", made.comparison.tuning_of("copying"))
    of_none = rows[rows["encoding"] == "none"].set_index("length")["value"]
    assert list(of_none.index) == [1, 2, 4] and of_none.is_monotonic_decreasing
    assert of_none[1] == 1.0  # of 1, 0, 1 and 2
    write(made, HarmlessConsole(io.StringIO()), "compare")
    assert (tmp_path / "figures" / "budget_copying.svg").is_file()
    assert list(pd.read_csv(tmp_path / "figures" / "budget_copying_table.csv")) == ["encoding", "1", "2", "4"]
    few = results(tuning=TUNING)
    assert expected_best_rows(few, "copying", few.comparison.tuning_of("copying")).empty

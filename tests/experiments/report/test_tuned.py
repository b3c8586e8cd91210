"""What a report says of the tuning."""

from __future__ import annotations

import dataclasses

import pytest

from poslab.experiments.cells import CellResult
from poslab.experiments.report import figures
from poslab.experiments.report.checks import checks
from poslab.experiments.report.conclusions import reservations
from poslab.experiments.report.tuned import tuned_table, tuning_pictures, tuning_sentences
from tests.experiments.comparisons import COPYING, TUNING
from tests.experiments.report.test_write import results

OF = {**TUNING, "of": {"slow": {"encoding.fraction": [0.5, 1.0]}}, "trials": 3}


def with_losses(loss, tuning=TUNING):
    """Results whose trials have these validation losses; None of a trial that failed."""
    found = results(tuning=tuning)
    made = dataclasses.replace(found, finished={})
    while cells := [c for c in made.plan.wanted(made.finished)[0] if c.identity not in made.finished]:
        for cell in cells:
            value = loss(cell) if cell.is_trial else 1.0
            made.finished[cell.identity] = None if value is None else CellResult({"validation/loss": value})
    return made


def text(made):
    return " ".join(tuning_sentences(made))


def test_keys_of_one_encoding_and_drawn_combinations_are_named():
    said = text(with_losses(lambda cell: abs(cell.point["optimizer.lr"] - 2e-3), OF))
    assert "tuned by 3 trials over optimizer.lr, on seed 1000" in said
    assert "The trials of slow had values of encoding.fraction too." in said


def test_trials_beyond_an_end_are_counted_and_a_best_value_there_is_named():
    made = with_losses(lambda cell: cell.point["optimizer.lr"] if cell.encoding == "slow" else 1.0)
    assert "values beyond it were tried as well: " in text(made)
    assert "slow (2)" in text(made)
    assert "still at an end: a better one may lie beyond" in text(made)
    row = tuned_table(made).frame.set_index("encoding").loc["slow"]
    assert (row["trials"], row["note"]) == (5, "optimizer.lr is at an end of all that was tried")
    (said,) = (sentence for sentence in reservations(made) if "tried" in sentence)
    assert said == "On copying the best value of slow is at an end of all that were tried: a better one may lie beyond."


def test_trials_that_failed_are_counted():
    made = with_losses(lambda cell: None if cell.point["optimizer.lr"] == 4e-3 else cell.point["optimizer.lr"] != 2e-3)
    assert (
        "Trials that diverged or failed count as the worst: none (1 of 3), rotary (1 of 3) and slow (1 of 3)."
        in text(made)
    )
    assert set(tuned_table(made).frame["note"]) == {"1 of 3 trials diverged or failed"}


def test_an_encoding_whose_trials_all_failed_is_marked_everywhere():
    made = with_losses(lambda cell: None if cell.encoding == "slow" else abs(cell.point["optimizer.lr"] - 2e-3))
    assert "All trials of slow did: it has the first values." in text(made)
    assert "still at an end" not in text(made)
    notes = tuned_table(made).frame.set_index("encoding")["note"]
    assert notes["slow"] == "all trials diverged or failed: the first values were taken"
    outcomes = checks(made).frame.set_index("check")
    assert not outcomes["holds"]["every tuning found a value"]
    assert outcomes["found"]["no tuned value at an end of its range"] == "none"
    (picture,) = tuning_pictures(made, figures.styles_of(["none", "rotary", "slow"]))
    assert [line.get_label() for line in picture.figure.axes[0].lines] == ["None (NoPE)", "Rotary (RoPE)"]


def test_what_was_tuned_alike_is_said_once():
    said = text(results(cases={"one": COPYING, "two": COPYING}, tuning=TUNING))
    assert said.startswith("On one and two, each encoding was tuned by 3 trials over optimizer.lr")
    assert text(results()) == "On copying, nothing was tuned."


@pytest.mark.parametrize("values", [[0.0, 1.0, 2.0], [-1.0, 1.0, 2.0], ["a", "b", "c"], [True, False]])
def test_values_that_have_no_logarithm_are_drawn(values):
    made = with_losses(lambda cell: 1.0, {**TUNING, "space": {"model.key": values}})
    (picture,) = tuning_pictures(made, figures.styles_of(["none", "rotary", "slow"]))
    assert picture.figure.axes[0].get_xscale() == "linear"
    assert picture.drawn("png")

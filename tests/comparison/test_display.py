"""The live table of a comparison."""

from __future__ import annotations

import io

import optuna
import pytest
from rich.console import Console

from poslab.comparison.cells import CellResult
from poslab.comparison.display import Display, plan_table
from poslab.comparison.study import ComparisonStudy
from poslab.tuning.storage import open_storage
from tests.comparison.comparisons import TUNING, plan

CASE = {"train": {"experiment": "small", "dataset": "copy"}}


@pytest.fixture
def shown(tmp_path):
    """A function that shows a comparison after some of its cells on a terminal of 80 columns."""

    def lines(finished: int, **changes) -> list[str]:
        made = plan(output=str(tmp_path), **changes)
        storage = open_storage(made.comparison)
        optuna.create_study(storage=storage, study_name=made.comparison.name)
        study = ComparisonStudy(made, storage)
        for _ in range(finished):
            study.complete(study.take("worker"), CellResult({"validation/loss": 1.0}))
        study.take("worker")
        screen = io.StringIO()
        console = Console(file=screen, width=80)
        console.print(Display(console, study, 1)._table(study.record()))
        console.print(plan_table(study, dict.fromkeys(made.comparison.cases, 60.0)))
        return screen.getvalue().splitlines()

    return lines


def test_the_live_table_has_a_column_for_each_case_and_says_what_runs(shown):
    lines = shown(4, cases={"one": CASE, "two": CASE}, tuning=TUNING)
    assert lines[0].startswith("4 of 30 runs are finished, 1 running")
    words = {line.split()[0]: " ".join(line.split()[1:]) for line in lines if line.strip()}
    assert words["none"] == "1/3 trials 1/3 trials"
    assert words["running"].startswith("two: rotary, lr=")
    assert max(map(len, lines)) <= 80


def test_many_cases_have_a_row_each(shown):
    lines = shown(2, cases={f"a_case_with_a_long_name_{'x' * 50}_{place}": CASE for place in range(6)})
    cases = [line for line in lines if line.startswith("  a_case")][:6]
    assert [" ".join(line.split()[-3:]) for line in cases] == ["2 of 6", *5 * ["0 of 6"]]
    assert max(map(len, lines)) <= 80


def test_the_time_to_go_is_that_of_the_cells_that_are_missing(shown):
    assert "4 of 6 runs are finished, 1 running; about 2 min to go with 1 worker" in "\n".join(shown(4))


@pytest.mark.parametrize("tuning", [TUNING, None])
def test_a_plan_says_that_tuning_may_add_runs(shown, tuning):
    assert ("Tuning may add runs" in "\n".join(shown(1, tuning=tuning))) == (tuning is not None)

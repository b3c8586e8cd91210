"""The live table of a comparison."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from poslab.experiments.cells import CellResult
from poslab.experiments.display import ComparisonDisplay, plan_table
from poslab.experiments.study import ComparisonJobs, cell_of_key, ledger_of
from tests.experiments.comparisons import COPYING, TUNING, plan


@pytest.fixture
def shown(tmp_path):
    """A function that shows a comparison after some of its cells on a terminal of 80 columns."""

    def lines(
        finished: int, updates=False, losses=lambda lr: 1.0, seconds=lambda encoding: 60.0, **changes
    ) -> list[str]:
        made = plan(output=str(tmp_path), **changes)
        study = ComparisonJobs(made, ledger_of(made.comparison))
        for _ in range(finished):
            job = study.take("worker")
            loss = losses(cell_of_key(job.key).point.get("optimizer.lr"))
            study.complete(job, CellResult({"validation/loss": loss}))
        study.take("worker")
        screen = io.StringIO()
        console = Console(file=screen, width=80)
        display = ComparisonDisplay(console, study, 1)
        console.print(display.table(study.snapshot()))
        console.print(plan_table(study, lambda case, encoding: seconds(encoding)))
        if updates:
            display.update(study.snapshot())
        return screen.getvalue().splitlines()

    return lines


def test_the_live_table_has_a_column_for_each_case_and_says_what_runs(shown):
    lines = shown(4, cases={"one": COPYING, "two": COPYING}, tuning=TUNING)
    assert not any("*" in line for line in lines)
    assert lines[0].startswith("4 of 30 runs are finished, 1 running")
    words = {line.split()[0]: " ".join(line.split()[1:]) for line in lines if line.strip()}
    assert words["none"] == "1/3 trials 1/3 trials"
    assert words["running"].startswith("two: rotary, lr=")
    assert max(map(len, lines)) <= 80


def test_many_cases_have_a_row_each(shown):
    lines = shown(2, cases={f"a_case_with_a_long_name_{'x' * 50}_{place}": COPYING for place in range(6)})
    cases = [line for line in lines if line.startswith("  a_case")][:6]
    assert [" ".join(line.split()[-3:]) for line in cases] == ["2 of 6", *5 * ["0 of 6"]]
    assert max(map(len, lines)) <= 80


def test_the_time_to_go_is_that_of_the_cells_that_are_missing(shown):
    assert "4 of 6 runs are finished, 1 running; about 2 min to go with 1 worker" in "\n".join(shown(4))


def test_the_time_to_go_is_that_of_each_encoding(shown):
    """Two seeds of three encodings, of which one takes ten times as long."""
    said = shown(0, seconds=lambda encoding: 600.0 if encoding == "slow" else 60.0)
    assert "about 24 min to go with 1 worker" in "\n".join(said)


def test_the_time_to_go_has_the_start_of_a_worker(shown):
    assert "about 70 s to go with 1 worker" in "\n".join(shown(0, seconds=lambda encoding: 10.0))


def test_a_range_that_was_extended_is_said_to_be(shown):
    """The best rate is the last of three: after nine trials, each encoding tries one beyond it, and `none` two."""
    said = shown(10, updates=True, losses=lambda lr: -lr, tuning=TUNING)
    words = [line.split() for line in said]
    assert ["none", "4/5*", "trials"] in words and ["rotary", "3/4*", "trials"] in words
    assert ["copying", "none", "4", "of", "5*", "0", "of", "2"] in words
    assert sum(line.strip() == "* with values beyond a range whose best was at its end" for line in said) == 2
    assert "running  copying: rotary, lr=0.008, beyond its range" in said
    assert any(line.startswith("finished  copying: none, lr=0.008, beyond its range") for line in said)
    assert not any("lr=0.004, beyond" in line for line in said)


@pytest.mark.parametrize("tuning", [TUNING, None])
def test_a_plan_says_that_tuning_may_add_runs(shown, tuning):
    assert ("Tuning may add runs" in "\n".join(shown(1, tuning=tuning))) == (tuning is not None)


def test_what_is_finished_needs_no_estimate(shown):
    def seconds(encoding):
        raise AssertionError(encoding)

    assert "nothing to do" in shown(3, seconds=seconds, seeds=1)[-1]

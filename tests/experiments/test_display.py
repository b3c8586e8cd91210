"""The live table of a comparison."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from poslab.experiments.cells import CellResult
from poslab.experiments.display import ComparisonDisplay, plan_table
from poslab.experiments.plan import ComparisonJobs, cell_of_key, ledger_of
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


def test_the_live_display_says_what_runs(shown):
    lines = shown(4, cases={"one": COPYING, "two": COPYING}, tuning=TUNING)
    assert lines[0].startswith("4 of 30 runs are finished, 1 running")
    assert lines[1].startswith("running  two: rotary, lr=")
    assert ["one", "none", "1", "of", "3", "0", "of", "2"] in [line.split() for line in lines]
    assert max(map(len, lines)) <= 80


def test_the_time_to_go_is_that_of_the_cells_that_are_missing(shown):
    assert "1 running; about 2 min to go" in "\n".join(shown(4))


def test_the_time_to_go_is_that_of_each_encoding(shown):
    """Two seeds of three encodings, of which one takes ten times as long."""
    lines = shown(0, seconds=lambda encoding: 600.0 if encoding == "slow" else 60.0)
    assert "about 24 min" in "\n".join(lines)


def test_the_time_to_go_has_the_start_of_a_worker(shown):
    assert "about 70 s to go with 1 worker" in "\n".join(shown(0, seconds=lambda encoding: 10.0))


def test_jobs_that_end_are_printed(shown):
    """The best rate is the last of three: after nine trials, each encoding tries one beyond it."""
    lines = shown(10, updates=True, losses=lambda lr: -lr, tuning=TUNING)
    assert "running  copying: rotary, lr=0.008, seed 1000" in lines
    assert any(line.startswith("finished  copying: none, lr=0.008") for line in lines)


@pytest.mark.parametrize("tuning", [TUNING, None])
def test_a_plan_says_that_tuning_may_add_runs(shown, tuning):
    assert ("Tuning may add runs" in "\n".join(shown(1, tuning=tuning))) == (tuning is not None)


def test_what_is_finished_needs_no_estimate(shown):
    def seconds(encoding):
        raise AssertionError(encoding)

    assert "nothing to do" in shown(3, seconds=seconds, seeds=1)[-1]

from __future__ import annotations

from collections.abc import Mapping

import pytest

from poslab.runs.directory import RunDirectory
from poslab.runs.errors import RunEndedEarlyError
from poslab.training.checking import check
from poslab.training.fit import run_test
from poslab.training.resume import Plan
from poslab.training.train import train

from .runs import run_of, small

ONE, TWO = (), ("trainer.devices=2", "trainer.strategy=ddp")


@pytest.mark.slow
@pytest.mark.parametrize("processes", [ONE, TWO], ids=["one process", "two processes"])
def test_an_observer_is_told_of_every_validation_by_one_process(processes, tmp_path):
    config = small(tmp_path, *processes)
    told: list[tuple[int, float]] = []

    def observer(step: int, metrics: Mapping[str, float]) -> None:
        told.append((step, metrics["validation/loss"]))

    run = train(Plan(RunDirectory(tmp_path / "run"), config, None), check(config), observer)

    assert [step for step, _ in told] == [2, 4]
    assert run.metrics()["validation/loss"] == min(loss for _, loss in told)


@pytest.mark.slow
@pytest.mark.parametrize("processes", [ONE, TWO], ids=["one process", "two processes"])
def test_an_observer_ends_all_processes_of_a_run(processes, tmp_path):
    config = small(tmp_path, *processes)
    run = RunDirectory(tmp_path / "run")

    with pytest.raises(RunEndedEarlyError, match="enough"):
        train(Plan(run, config, None), check(config), lambda step, _: "enough" if step == 2 else None)

    assert not run.is_finished
    assert not run.is_held
    steps = {int(row.split(",")[0]) for row in (run.path / "metrics.csv").read_text().splitlines()[1:]}
    assert max(steps) == 2


def test_a_run_that_is_observed_is_tested_when_it_is_asked_for(tmp_path):
    config = small(tmp_path)
    usual = run_of(config, tmp_path / "usual").metrics()

    run = train(Plan(RunDirectory(tmp_path / "run"), config, None), check(config), lambda *_: None)

    assert not any(tag.startswith("test/") for tag in run.metrics())
    metrics = run_test(run)
    assert metrics == {tag: value for tag, value in usual.items() if tag.startswith("test/")}
    assert {tag: run.metrics()[tag] for tag in metrics} == metrics
    assert run_test(run) == metrics, "a second time it is not computed again"

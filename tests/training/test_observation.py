from __future__ import annotations

from collections.abc import Mapping

import pytest

from poslab.runs.directory import RunDirectory
from poslab.runs.errors import RunEndedEarlyError
from poslab.training.checking import check
from poslab.training.fit import run_test, train
from poslab.training.resume import Plan

from .runs import recorded, run_of, small


@pytest.mark.slow
@pytest.mark.parametrize("processes", [(), ("trainer.devices=2", "trainer.strategy=ddp")], ids=["one", "two"])
def test_an_observer_is_told_of_every_validation_by_one_process_and_ends_all(processes, tmp_path):
    config = small(tmp_path, "trainer.max_steps=6", "trainer.validations=3", *processes)
    run = RunDirectory(tmp_path / "run")
    told: dict[int, float] = {}

    def observer(step: int, metrics: Mapping[str, float]) -> str | None:
        assert step not in told
        told[step] = metrics["validation/loss"]
        return "enough" if step == 4 else None

    with pytest.raises(RunEndedEarlyError, match="enough"):
        train(Plan(run, config, None), check(config), observer)

    assert told == pytest.approx({step: value for step, tag, value in recorded(run) if tag == "validation/loss"})
    assert list(told) == [2, 4]
    assert not run.is_finished
    assert not run.is_held
    assert max(step for step, _, _ in recorded(run)) == 4


def test_a_run_that_is_observed_is_tested_when_it_is_asked_for(tmp_path):
    config = small(tmp_path)
    usual = run_of(config, tmp_path / "usual").metrics()

    run = train(Plan(RunDirectory(tmp_path / "run"), config, None), check(config), lambda *_: None)

    assert not any(tag.startswith("test/") for tag in run.metrics())
    metrics = run_test(run)
    assert metrics == {tag: value for tag, value in usual.items() if tag.startswith("test/")}
    assert {tag: run.metrics()[tag] for tag in metrics} == metrics
    assert run_test(run) == metrics

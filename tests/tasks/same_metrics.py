"""The metrics of a run, found in another way."""

from __future__ import annotations

from pathlib import Path

import pytest

from poslab.evaluation.scores.items import MeasuredRun
from poslab.evaluation.scores.measure import measure
from poslab.experiments.metrics import metrics_of
from poslab.runs.directory import RunDirectory
from poslab.runs.recipe import recipe_of
from tests.cli.running import Running, python
from tests.training.runs import CONF


def assert_measured_as_tested(run: RunDirectory) -> MeasuredRun:
    """Item by item, at each length, a run has the metrics of its test; return the measurement."""
    measured, tested = measure(run.path), run.metrics()
    result = {key: scores.value for key, scores in measured.scores.items()} | dict(measured.values)
    expected = {key: tested[f"test/{key[0]}" + ("" if key[1] is None else f"@{key[1]}")] for key in result}
    assert {metric for metric, length in result if length is not None} >= set(metrics_of(recipe_of(run).task))
    assert measured.scores and result == pytest.approx(expected, rel=1e-5, abs=1e-6)
    return measured


def assert_two_processes_come_to_the_metrics_of(alone: RunDirectory, words: list[str], folder: Path) -> None:
    """The command trains the run of these words in two processes."""
    command = python("-m", "src.train", *words, "trainer=ddp_cpu", f"hydra.run.dir={folder}/run")
    ended = Running(command, CONF.parent).wait()
    assert ended.status == 0, ended
    together = RunDirectory(folder / "run").metrics()
    expected = {tag: value for tag, value in alone.metrics().items() if tag.startswith(("test/", "validation/"))}
    assert len(expected) > 10
    assert {tag: together[tag] for tag in expected} == pytest.approx(expected, rel=1e-3, abs=1e-4)

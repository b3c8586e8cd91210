"""TensorBoard shows what an encoding learns."""

from pathlib import Path
from typing import Any

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from poslab.runs.checkpoint import load_checkpoint
from poslab.runs.directory import RunDirectory
from tests.training.runs import run_of, small, stop_run

STEPS = ("trainer.max_steps=6", "trainer.validations=3", "optimizer.lr=0.1")


def board(folder: Path) -> EventAccumulator:
    return EventAccumulator(str(folder), {"scalars": 0}).Reload()


@pytest.mark.parametrize(("encoding", "names"), [("kerple_log", {"r1", "r2"}), ("dape", {"over.r1", "over.r2"})])
def test_the_numbers_of_an_encoding_and_not_its_networks_are_curves_over_steps(tmp_path, encoding, names):
    events = board(run_of(small(tmp_path, f"encoding={encoding}", *STEPS), tmp_path / "run").path)
    tags = [tag for tag in events.Tags()["scalars"] if tag.startswith("encoding/")]
    assert set(tags) == {f"encoding/{name}/layer 0 head {head}" for name in names for head in (0, 1)}
    for tag in tags:
        curve = events.Scalars(tag)
        assert [point.step for point in curve] == [2, 4, 6]
        assert curve[0].value != curve[-1].value


@pytest.mark.parametrize("encoding", ["t5", "shaw"])
def test_a_resumed_run_still_knows_its_start(tmp_path, encoding):
    config = small(tmp_path, f"encoding={encoding}", *STEPS)

    def kept(run: RunDirectory) -> dict[str, Any]:
        return load_checkpoint(run.last_checkpoint)["callbacks"]["EncodingCurves"]

    stopped = stop_run(config, tmp_path / "run", 2)
    before = kept(stopped)
    after = kept(run_of(config, stopped.path, stopped.last_checkpoint))
    assert after["start"] and all(torch.equal(x, before["start"][name]) for name, x in after["start"].items())

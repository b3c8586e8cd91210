"""TensorBoard shows what an encoding learns, for at most 1 % of the training time."""

from pathlib import Path
from typing import Any

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from poslab.runs.checkpoint import load_checkpoint
from poslab.runs.directory import RunDirectory
from tests.training.runs import run_of, small, stop_run

STEPS = ("trainer.max_steps=6", "trainer.validations=3", "optimizer.lr=0.1")
PICTURE = "encoding/bias"


def board(folder: Path) -> EventAccumulator:
    return EventAccumulator(str(folder), {"images": 0, "scalars": 0}).Reload()


@pytest.mark.parametrize(("encoding", "names"), [("kerple_log", {"r1", "r2"}), ("dape", {"over.r1", "over.r2"})])
def test_the_numbers_of_an_encoding_and_not_its_networks_are_curves_over_steps(tmp_path, encoding, names):
    events = board(run_of(small(tmp_path, f"encoding={encoding}", *STEPS), tmp_path / "run").path)
    tags = [tag for tag in events.Tags()["scalars"] if tag.startswith("encoding/")]
    assert set(tags) == {f"encoding/{name}/layer 0 head {head}" for name in names for head in (0, 1)}
    for tag in tags:
        curve = events.Scalars(tag)
        assert [point.step for point in curve] == [2, 4, 6]
        assert curve[0].value != curve[-1].value


def test_a_run_of_a_second_has_no_time_for_pictures(tmp_path):
    run = run_of(small(tmp_path, "encoding=t5", *STEPS), tmp_path / "run")
    assert PICTURE not in board(run.path).Tags()["images"]


@pytest.mark.parametrize(("encoding", "drawn"), [("t5", True), ("learned", False), ("rotary", False)])
def test_a_bias_is_drawn_where_there_is_time_and_one_that_learns(tmp_path, monkeypatch, encoding, drawn):
    monkeypatch.setattr("poslab.training.callbacks.SHARE", 1e6)
    events = board(run_of(small(tmp_path, f"encoding={encoding}", *STEPS), tmp_path / "run").path)
    assert (PICTURE in events.Tags()["images"]) == drawn
    if drawn:
        assert [image.step for image in events.Images(PICTURE)] == [2, 4, 6]


@pytest.mark.parametrize("encoding", ["t5", "shaw"])
def test_a_resumed_run_still_knows_its_start_and_what_pictures_have_taken(tmp_path, encoding):
    config = small(tmp_path, f"encoding={encoding}", *STEPS)

    def kept(run: RunDirectory) -> dict[str, Any]:
        return load_checkpoint(run.last_checkpoint)["callbacks"]["EncodingCurves"]

    stopped = stop_run(config, tmp_path / "run", 2)
    before = kept(stopped)
    after = kept(run_of(config, stopped.path, stopped.last_checkpoint))
    assert after["spent"] > before["spent"] > 0
    assert after["start"] and all(torch.equal(x, before["start"][name]) for name, x in after["start"].items())

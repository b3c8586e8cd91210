"""Names of run directories."""

from __future__ import annotations

import re

import pytest

from poslab.cli.argv import parsed
from poslab.cli.train import suffix


@pytest.mark.parametrize(
    ("typed", "name"),
    [
        ([], ""),
        (["encoding=rotary", "dataset=text"], ""),
        (["encoding.base=1e5", "seed=2"], "_base-1e5_seed-2"),
        (["seed=2", "positions=randomized", "encoding.base=10"], "_positions-randomized_base-10_seed-2"),
        (["+encoding.scaling.factor=4"], "_factor-4"),
        (["model.num_layers=2", "encoding@model.cross_encoding=t5"], "_num_layers-2_cross_encoding-t5"),
        (["dataset.files=[/a b/c.txt,'x, y=z']"], "_files-ab-c.txt-x-y-z"),
        (["dataset.path=" + 50 * "x"], "_path-" + 20 * "x"),
        ([f"model.{key}=1" for key in "abcdefghijklmnop"], "".join(f"_{key}-1" for key in "abcdefghijkl")),
        (["experiment=models/gemma3", "seed=2"], "_experiment-models-gemma3_seed-2"),
        (["~temperature", "attention=dense"], "_attention-dense"),
    ],
)
def test_what_was_typed_is_the_end_of_a_name(typed, name):
    assert suffix(parsed(typed)) == name
    assert parsed([f"run=outputs/x{name}"])[0].value() == f"outputs/x{name}", "it needs quotes"


def test_a_run_is_named_by_what_was_typed_and_a_directory_of_ones_own_stays(small, run_command, tmp_path):
    ended = run_command("src.train", *small, "encoding.base=1e5")
    assert ended.status == 0, ended
    (run,) = (tmp_path / "outputs").iterdir()
    assert re.fullmatch(r"[\d_-]{19}_text_rotary_base-1e5_d_model-16_num_layers-1_num_heads-2", run.name)
    assert run_command("src.train", *small, "encoding.base=1e5", "hydra.run.dir=mine_text_rotary").status == 0
    assert (tmp_path / "mine_text_rotary" / "metrics.json").is_file()

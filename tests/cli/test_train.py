"""Names of run directories, and the table of the jobs of `-m`."""

from __future__ import annotations

import re
from types import SimpleNamespace

import pytest

from poslab.cli import train
from poslab.cli.argv import parsed
from poslab.cli.train import suffix
from poslab.runs.directory import RunDirectory
from tests.training.runs import composed


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


def test_the_table_of_jobs_has_the_mean_and_deviation_over_seeds_of_each_label(monkeypatch, capsys):
    def job(metric: str, values: dict, *overrides: str) -> tuple:
        tags = {f"test/{metric}@{length}": value for length, value in values.items()} | {f"test/{metric}": 9.0}
        task = SimpleNamespace(first_metric=lambda: metric)
        return SimpleNamespace(metrics=lambda: tags), SimpleNamespace(task=task, config=composed(*overrides))

    jobs = [
        job("bits_per_byte", {256: 2.0, 1024: 3.0}, "encoding.base=1e5", "seed=1"),
        job("bits_per_byte", {256: 2.2, 1024: 3.2}, "encoding.base=1e5", "seed=2"),
        job("bits_per_byte", {256: 2.5}, "encoding=learned", "seed=1"),
        job("exact_match", {8: 50.0}, "encoding=alibi"),
    ]
    monkeypatch.setattr(train, "JOBS", jobs)
    train.print_jobs()
    lines = [line.split() for line in capsys.readouterr().out.splitlines() if line]
    assert lines[1:4] == [
        ["encoding", "256", "1,024"],
        ["rotary", "2.100", "±0.141", "3.100", "±0.141"],
        ["learned", "2.500", "–"],
    ]
    assert lines[5][-1] == "8" and lines[6][-1] == "50.000"

    monkeypatch.setattr(train, "JOBS", jobs[:1])
    train.print_jobs()
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(("typed", "validations"), [([], 2), (["trainer.validations=5"], 5)])
def test_a_short_run_validates_less_unless_validations_are_typed(typed, validations, small, run_command, tmp_path):
    words = [word for word in small if not word.startswith(("trainer.validations=", "trainer.max_steps="))]
    ended = run_command("src.train", *words, "trainer.max_steps=40", "hydra.run.dir=run", *typed)
    assert ended.status == 0, ended
    assert RunDirectory(tmp_path / "run").config()["trainer"]["validations"] == validations

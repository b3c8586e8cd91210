"""A run directory is opened only where all in it is what a run writes: a stranger's may be made to harm."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable

import pytest

import poslab
from poslab.io.files import read_yaml, write_atomically
from poslab.runs.directory import RunDirectory
from poslab.runs.loading import serve
from poslab.tasks.classification import ClassesRecord
from poslab.training.loggers import MetricsCsv
from poslab.training.resume import newest_unfinished
from tests.training.runs import composed
from tests.written_run import write_run

PLANTED = [
    *(f".{name}.writing" for name in ("config.yaml", "environment.json", "metrics.json", "task.json", "evaluation")),
    "checkpoints/.last.safetensors.writing",
    "config.yaml",
    "metrics.csv",
    "tokenizer.json",
    "train.log",
    "checkpoints/best.safetensors",
    "checkpoints",
    "evaluation",
]
FILES = ["environment.json", "metrics.json", "metrics.csv", "task.json", "tokenizer.json", "train.log"]


Opening = Callable[[RunDirectory], object]


def read(run: RunDirectory) -> None:
    RunDirectory.of(run.path)


def hold(run: RunDirectory) -> None:
    with run.held():
        pass


@pytest.fixture(params=[read, hold])
def opened(request: pytest.FixtureRequest) -> Opening:
    opening: Opening = request.param
    return opening


@pytest.mark.parametrize("name", PLANTED)
def test_a_run_with_a_link_in_it_is_refused(run, name, opened):
    """In one sentence that names the link, with what it points to left as it is."""
    link, victim = run.path / name, run.path.parent / "victim"
    if link.is_dir():
        link.rename(victim)
    elif link.exists():
        shutil.move(link, victim)
    else:
        victim.write_text("mine")
    link.symlink_to(victim)
    before = victim.read_bytes() if victim.is_file() else sorted(victim.iterdir())
    with pytest.raises(ValueError, match="must have no symbolic links") as error:
        opened(run)
    assert str(link) in str(error.value) and "\n" not in str(error.value)
    assert before == (victim.read_bytes() if victim.is_file() else sorted(victim.iterdir()))


def test_a_run_may_lie_behind_a_link(run, tmp_path):
    (tmp_path / "link").symlink_to(run.path)
    (tmp_path / "outputs").symlink_to(tmp_path)
    poslab.load(tmp_path / "link")
    poslab.load(tmp_path / "outputs" / "run" / "checkpoints" / "last.safetensors")
    hold(RunDirectory(tmp_path / "link"))


@pytest.mark.parametrize("name", FILES)
def test_a_folder_in_the_place_of_a_file_is_one_sentence(run, name, opened):
    (run.path / name).unlink(missing_ok=True)
    (run.path / name).mkdir()
    with pytest.raises(ValueError, match=f"{name} must be a file, and is a"):
        opened(run)


def test_a_file_in_the_place_of_the_checkpoints_is_one_sentence(run, opened):
    shutil.rmtree(run.checkpoints)
    run.checkpoints.write_text("")
    with pytest.raises(ValueError, match="checkpoints must be a folder, and"):
        opened(run)


def test_a_pipe_is_refused_before_anything_waits_for_it(run, opened):
    os.mkfifo(run.log_file)
    with pytest.raises(ValueError, match=r"train\.log is neither"):
        opened(run)


def test_resume_auto_passes_by_a_run_with_a_link(run):
    config = read_yaml(run.config_file) | {"trust": []}
    found = newest_unfinished(run.path.parent, config)
    assert found is not None and found.path == run.path
    (run.path / ".task.json.writing").symlink_to(run.path.parent / "victim")
    assert newest_unfinished(run.path.parent, config) is None


def test_a_file_is_never_written_through_a_link(tmp_path):
    """Neither at its own name nor at that of its temporary file in earlier versions."""
    victim = tmp_path / "victim"
    victim.write_text("mine")
    for name in ("x.json", ".x.json.writing"):
        (tmp_path / name).symlink_to(victim)
    write_atomically(tmp_path / "x.json", "{}")
    assert victim.read_text() == "mine"
    assert (tmp_path / "x.json").read_text() == "{}" and not (tmp_path / "x.json").is_symlink()
    assert len(list(tmp_path.iterdir())) == 3


def test_a_file_has_the_permissions_of_any_new_file(tmp_path):
    write_atomically(tmp_path / "one", "")
    (tmp_path / "other").write_text("")
    assert (tmp_path / "one").stat().st_mode == (tmp_path / "other").stat().st_mode


def test_a_run_that_starts_clears_what_a_kill_left(run):
    leftovers = [run.path / ".config.yaml.0123.writing", run.checkpoints / ".last.safetensors.writing"]
    for file in leftovers:
        file.write_text("half")
    (run.path / ".evaluation.writing").mkdir()
    run.start(read_yaml(run.config_file), {})
    assert not any(file.exists() for file in leftovers) and (run.path / ".evaluation.writing").is_dir()


@pytest.mark.parametrize(
    "content",
    [
        *(f'{{"steps": {steps}}}' for steps in ("Infinity", "NaN", 1e30, "1e999", -5, "true", 10**30, 10**4000)),
        '{"test/loss": 1' + "0" * 400 + "}",
        '{"test/loss": "\\u001b[31m"}',
        "[]",
    ],
)
def test_final_figures_that_are_none_are_one_sentence(run, content):
    run.metrics_file.write_text(content)
    with pytest.raises(ValueError, match=r"metrics\.json"):
        run.metrics()


def test_a_final_figure_may_be_infinite(run):
    run.finish({"steps": 4, "test/bits_per_byte@1024": float("inf")})
    assert run.metrics() == {"steps": 4, "test/bits_per_byte@1024": float("inf")}


@pytest.mark.parametrize("content", [b'\xff\x00garbage,,,\n"', b"1," + b"x" * 200_000 + b",2\n"])
def test_figures_that_are_not_csv_are_one_sentence(run, content):
    run.metrics_csv.write_bytes(content)
    with pytest.raises(ValueError, match=r"metrics\.csv is damaged: it"):
        MetricsCsv(run.path, first_step=4).begin({})


def test_lines_of_no_step_are_dropped_when_a_run_goes_on(run):
    lines = ["1,train/loss,2.5", "²,train/loss,1", "9" * 5000 + ",train/loss,1", "x,y,z", "5,train/loss,1"]
    run.metrics_csv.write_text("\n".join(["step,tag,value", *lines]), encoding="utf-8")
    MetricsCsv(run.path, first_step=4).begin({})
    assert run.metrics_csv.read_text() == "step,tag,value\n1,train/loss,2.5\n"


@pytest.mark.parametrize(
    "content",
    [
        {"outputs": [2, True]},
        {"outputs": [2, True], "classes": ["a", "a"]},
        {"outputs": [3, False], "classes": ["a", "b"]},
    ],
)
def test_a_task_without_a_name_for_each_class_is_one_sentence(run, content):
    run.task_file.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"task\.json is damaged"):
        ClassesRecord.read(run.task_file)


@pytest.mark.parametrize(
    ("model", "datasets"),
    {
        "decoder": ["trec", "squad", "reverse_string"],
        "encoder": ["trec", "squad", "reverse_string", "multi30k"],
    }.items(),
)
def test_a_run_whose_data_is_of_another_task_is_one_sentence(tmp_path, model, datasets):
    """A model of text, whose configuration says that it has learned something else."""
    run = write_run(tmp_path / "run", f"model={model}")
    config = read_yaml(run.config_file)
    for dataset in datasets:
        run.config_file.unlink()  # a run that has one keeps it
        run.start({**config, "dataset": composed(f"dataset={dataset}")["dataset"]}, {})
        with pytest.raises(ValueError, match=r"^run=.* cannot answer: |^model must"):
            serve(run.path)


def test_no_interpolation_of_a_run_is_resolved(run, monkeypatch):
    monkeypatch.setenv("POSLAB_SECRET", "hunter2")
    config = run.config() | {"init_from": "${oc.env:POSLAB_SECRET}"}
    config.pop("trust")
    for written in (config, config):
        run.config_file.unlink()  # a run that has one keeps it
        run.start(written, {})
        assert run.config()["init_from"] == "${oc.env:POSLAB_SECRET}"
        config = run.config()
    assert "hunter2" not in run.config_file.read_text()

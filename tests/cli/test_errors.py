"""A mistake is one sentence, an exit status and nothing left behind; messages.txt has most of them."""

import os
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch

from poslab.cli.errors import RENAMED, explained
from poslab.configuration.command_line import choices

from .running import Ended


@pytest.fixture
def train(run_command: Callable[..., Ended]) -> Callable[..., Ended]:
    """`python -m src.train` in the empty directory of the test."""
    return partial(run_command, "src.train")


def left_behind(folder: Path) -> list[Path]:
    """The paths below a directory, `outputs` itself aside."""
    return [path for path in folder.rglob("*") if path != folder / "outputs"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
@pytest.mark.parametrize("choice", ["gpu", "ddp"])
def test_a_missing_gpu_is_one_sentence(choice, train):
    ended = train(f"trainer={choice}")
    assert (ended.status, ended.output, ended.errors.count("\n")) == (2, "", 1)
    assert ended.errors.startswith("error: trainer.accelerator=gpu")


def test_a_loss_that_is_no_number_ends_with_status_1_and_one_sentence(small, train):
    ended = train(*small, "optimizer.lr=1e30", "trainer.max_steps=20")
    assert ended.status == 1
    assert ended.errors.startswith("error: the ") and ended.errors.count("\n") == 1
    assert "optimizer.lr" in ended.errors or "validation loss" in ended.errors
    assert "resume with" not in ended.output  # it would end in the same way


def test_one_wrong_job_of_two_leaves_the_other_to_run(small, tmp_path, train):
    ended = train("-m", *small, "encoding=rotary", "encoding.base=0,100", "hydra.sweep.dir=sweep")
    assert ended.status == 2
    assert re.fullmatch("error: encoding.base .* 0\n", ended.errors)
    finished = [path.parent.name for path in (tmp_path / "sweep").rglob("metrics.json")]
    assert finished == ["1_text_rotary_base-100"]
    assert not list((tmp_path / "sweep").glob("0_*"))


def test_an_unknown_choice_among_several_jobs_is_reported_before_the_first(small, tmp_path, train):
    ended = train("-m", *small, "encoding=alibi,rotry", "hydra.sweep.dir=sweep")
    assert ended.status == 2
    assert "'rotry'" in ended.errors and "'rotary'" in ended.errors
    assert not list(tmp_path.rglob("metrics.json"))


def test_a_run_is_not_written_over(small, train, tmp_path):
    assert train(*small, "hydra.run.dir=run").status == 0
    written = {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*")}
    ended = train(*small, "hydra.run.dir=run")
    assert ended.status == 2
    assert "resume=run" in ended.errors
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "run").rglob("*")} == written


def test_a_damaged_checkpoint_is_reported_when_a_run_resumes(small, train, tmp_path):
    assert train(*small, "hydra.run.dir=run").status == 0
    (tmp_path / "run" / "metrics.json").unlink()
    file = tmp_path / "run" / "checkpoints" / "last.safetensors"
    file.write_bytes(file.read_bytes()[:-1000])
    before = set(tmp_path.rglob("*"))
    ended = train("resume=run")
    assert (ended.status, ended.errors.count("\n")) == (2, 1)
    assert re.match(r"error: resume: .*/last\..*/best\.safetensors", ended.errors)
    assert set(left_behind(tmp_path)) == before


def test_the_traceback_can_be_asked_for(train):
    ended = train("model.num_heads=5", full_error="1")
    assert "Traceback (most recent call last)" in ended.errors
    assert "error: model.num_heads" in ended.errors.splitlines()[-1]
    assert ended.status == 2


@pytest.mark.parametrize(
    ("words", "has_hint"),
    [(["model=thin"], True), (["model=thin", "size=small"], True), (["model.d_model=8"], False)],
)
def test_a_model_without_a_width_goes_without_a_size(words, has_hint):
    sentence, status = explained(ValueError("model.d_model: Thin has no such argument"), "train", words)
    assert (sentence.endswith("~size"), status) == (has_hint, 2)


@pytest.mark.parametrize(("typed", "now"), RENAMED.items())
def test_what_was_renamed_is_refused_with_its_new_name(typed, now, train):
    group, _, choice = typed.partition("=")
    if choice in choices(group):
        pytest.skip(f"{typed} exists")
    ended = train(typed if choice else f"{typed}=1")
    assert (ended.status, ended.errors) == (2, f"error: {typed} is now {now}\n")


def test_a_key_of_other_models_is_not_suggested_for_itself(train):
    ended = train("model=pretrained", "pretrained=minilm", "model.d_model=32")
    assert "error: unknown key 'model.d_model'" in ended.errors
    assert "'model.d_model'" not in ended.errors.splitlines()[1]


@pytest.mark.parametrize("word", ["{}", "{}=1", "encoding={}", "resume={}", "+{}=1", "seed={}"])
def test_a_word_that_no_file_could_be_named_by_is_one_short_sentence(word, train):
    ended = train(word.format(10_000 * "x"))
    assert ended.status in (1, 2)
    assert re.fullmatch(r"error: .+\n(hint: .+\n)?", ended.errors) and len(ended.errors) < 1000


@pytest.mark.parametrize("command", ["train", "evaluate", "generate", "export"])
def test_help_on_an_empty_word_is_one_sentence(command, run_command):
    ended = run_command(f"src.{command}", "--help", "")
    assert ended.status == 2 and ended.errors.startswith("error: ''")


def test_a_run_that_is_not_there_is_answered_with_the_newest(run_command, tmp_path):
    for number in (1, 2):
        run = tmp_path / "outputs" / f"2026-01-0{number}_09-00-00_text_rotary"
        run.mkdir(parents=True)
        (run / "config.yaml").write_text("seed: 1")
        os.utime(run / "config.yaml", (0, 100 - number))
    for command, word in ("evaluate", "run=outputs/RUN"), ("train", "resume=outputs/RUN"):
        ended = run_command(f"src.{command}", word)
        assert ended.status == 2 and re.search(r"^hint: .*outputs/2026-01-01_", ended.errors, re.M), ended


def test_a_job_number_that_was_typed_makes_no_run_one_of_several(small, train, tmp_path):
    assert train(*small, "hydra.job.num=3").status == 0
    assert list(tmp_path.glob("outputs/*_text_*/metrics.json"))

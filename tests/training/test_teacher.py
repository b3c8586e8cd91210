"""Runs that learn from a teacher: what they record, keep and resume, and the teachers that they refuse."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningModule

import poslab
from poslab.data.order import IndependentOrder
from poslab.runs.checkpoint import load_checkpoint
from poslab.runs.directory import RunDirectory
from poslab.training.checking import check
from tests.data.images.small import write_fashion
from tests.training.runs import (
    assert_resumes,
    assert_same_weights,
    composed,
    opened,
    recorded,
    run_of,
    small,
    stop_run,
    words,
)

TEXT = words(1200)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    """A trained run that is wider, deeper and of another encoding than those that it teaches."""
    folder = tmp_path_factory.mktemp("teacher")
    sizes = ["model.d_model=32", "model.num_layers=2", "encoding=alibi", "trainer.max_steps=30"]
    return run_of(small(folder, *sizes), folder / "run")


def distilled(folder: Path, teacher: str | RunDirectory, *overrides: str) -> dict[str, Any]:
    source = teacher.path if isinstance(teacher, RunDirectory) else teacher
    return small(folder, "objective=distil", f"objective.teacher={source}", *overrides)


def lessons(run: RunDirectory) -> float:
    """What a teacher has taught by the last checkpoint of a run."""
    return float(load_checkpoint(run.last_checkpoint)["trained"]["taught"])


def curves(run: RunDirectory, tag: str) -> dict[int, float]:
    return {step: value for step, own, value in recorded(run) if own == tag}


def test_a_run_records_its_distillation_and_keeps_nothing_of_its_teacher(tmp_path, teacher):
    plain = run_of(small(tmp_path), tmp_path / "plain")
    shutil.copytree(teacher.path, source := tmp_path / "source")
    run = run_of(distilled(tmp_path, str(source)), tmp_path / "run")

    assert list(curves(run, "train/distillation")) == list(curves(run, "train/loss")) == [1, 2, 3, 4]
    assert curves(run, "train/loss")[1] == curves(plain, "train/loss")[1]  # of the task alone, before any step
    assert curves(run, "train/loss")[4] != curves(plain, "train/loss")[4]
    assert run.start_file.read_text() == plain.start_file.read_text()
    assert run.metrics().keys() == plain.metrics().keys()
    assert re.search("^teacher: .* 35,008 .* 16 tokens", run.log_file.read_text(), re.M)

    one, other = (load_checkpoint(own.last_checkpoint) for own in (run, plain))
    assert one["state_dict"].keys() == other["state_dict"].keys()
    assert [len(group["params"]) for group in one["optimizer_states"][0]["param_groups"]] == [
        len(group["params"]) for group in other["optimizer_states"][0]["param_groups"]
    ]
    shutil.rmtree(source)
    poslab.load(run.path)  # needs its teacher no more


@pytest.mark.parametrize("more", [(), ("objective.match=hidden", "objective.distance=mse", "model.d_model=32")])
def test_micro_batches_change_nothing(tmp_path, teacher, more):
    shape = ["dataset.batch_size=8", "dataset.document_boundaries=true", "trainer.max_steps=2", *more]
    whole, cut = (
        run_of(distilled(tmp_path, teacher, *shape, f"trainer.micro_batch_size={size}"), tmp_path / size)
        for size in ("8", "2")
    )
    for tag in ("train/loss", "train/distillation", "train/gradient_norm", "validation/loss"):
        assert curves(cut, tag) == pytest.approx(curves(whole, tag), rel=1e-5), tag


def test_a_longer_window_has_the_loss_of_its_task_beyond_the_teacher(tmp_path, teacher):
    run = run_of(
        distilled(tmp_path, teacher, "dataset.sequence_length=32", "objective.weight=1", "trainer.max_steps=1"),
        tmp_path / "run",
    )
    within = ["dataset.sequence_length=32", "objective.weight=1", "trainer.max_steps=1", "objective.within=32"]
    other = run_of(distilled(tmp_path, teacher, *within), tmp_path / "other")
    assert curves(run, "train/loss") == curves(other, "train/loss")
    assert curves(run, "train/gradient_norm")[1] != pytest.approx(curves(other, "train/gradient_norm")[1], rel=1e-3)
    assert "which reads 32 tokens" in other.log_file.read_text()


@pytest.mark.slow
def test_a_teacher_reads_the_text_before_the_windows_of_a_run(tmp_path, teacher):
    """The windows are those of a run without it."""
    plain, alike, longer = (
        run_of(distilled(tmp_path, teacher, f"objective.teacher_length={length}"), tmp_path / length)
        for length in ("null", "16", "48")
    )
    assert_same_weights(alike, plain)
    assert curves(longer, "train/loss")[1] == curves(plain, "train/loss")[1]
    assert curves(longer, "train/distillation")[1] != pytest.approx(curves(plain, "train/distillation")[1], rel=1e-3)
    assert longer.metrics().keys() == plain.metrics().keys()
    assert "which reads 48 tokens" in longer.log_file.read_text()


def test_a_batch_has_the_text_before_its_windows(tmp_path):
    data, _ = opened(small(tmp_path))
    (plain,) = data.first_batches(1)
    data.num_earlier = 40
    (longer,) = data.first_batches(1)
    text = data.splits.tokens("train")
    assert torch.equal(plain.tokens, longer.tokens) and plain.earlier is None
    for earlier, tokens in zip(longer.earlier, longer.tokens, strict=True):
        whole = torch.cat([earlier, tokens]).numpy()
        around = np.lib.stride_tricks.sliding_window_view(np.append(text, text[:16]), 56)
        assert (around == whole).all(1).any()  # the end of the text stands before its beginning


def test_a_stream_has_no_text_before_its_windows(tmp_path, teacher):
    (tmp_path / "part.parquet").touch()
    data = ["dataset=hub", "dataset.path=parquet", f"dataset.data_files={tmp_path}/*.parquet", "dataset.streaming=true"]
    with pytest.raises(ValueError, match=r"^objective.teacher_length must be"):
        check(composed(*data, "objective=distil", f"objective.teacher={teacher.path}", "objective.teacher_length=999"))


def test_a_text_that_is_shorter_than_the_teacher_reads_is_told(tmp_path, teacher):
    with pytest.raises(ValueError, match=r"^dataset.sequence_length of 16 takes 9001"):
        run_of(distilled(tmp_path, teacher, "objective.teacher_length=9000"), tmp_path / "run")


def test_a_resumed_run_ends_with_the_weights_of_one_that_was_not_interrupted(tmp_path, teacher):
    config = distilled(tmp_path, teacher, "model.dropout=0.2", "trainer.max_steps=6")
    whole, resumed = assert_resumes(config, tmp_path)
    assert curves(resumed, "train/distillation") == curves(whole, "train/distillation")
    assert lessons(resumed) == lessons(whole) == 6 * 4 * 16


def test_a_run_resumes_with_its_own_teacher_alone(tmp_path, teacher):
    shutil.copytree(teacher.path, source := tmp_path / "source")
    config = distilled(tmp_path, str(source), "trainer.max_steps=4")
    stopped = stop_run(config, tmp_path / "stopped", step=2)
    shutil.rmtree(source)
    run_of(small(tmp_path, "trainer.max_steps=1"), source)
    with pytest.raises(ValueError, match=f"^resume: the teacher {source} has other"):
        run_of(config, tmp_path / "stopped", stopped.last_checkpoint)


@pytest.mark.parametrize("precision", ["bf16-mixed", "bf16-true"])
def test_a_teacher_follows_the_precision_of_its_student(tmp_path, teacher, monkeypatch, precision):
    kinds = []

    def begin(self: Any, *_: Any) -> None:
        kinds.append({parameter.dtype for parameter in self.teacher.model.parameters()})

    monkeypatch.setattr(LightningModule, "on_train_epoch_start", begin)
    run = run_of(distilled(tmp_path, teacher, f"trainer.precision={precision}"), tmp_path / "run")
    assert kinds == [{torch.bfloat16 if precision == "bf16-true" else torch.float32}]
    assert 0 < curves(run, "train/distillation")[4] < 10


@pytest.mark.slow
def test_a_compiled_run_learns_the_same(tmp_path, teacher):
    plain, compiled = (
        run_of(distilled(tmp_path, teacher, f"trainer.compile={is_compiled}"), tmp_path / is_compiled)
        for is_compiled in ("false", "true")
    )
    assert curves(compiled, "train/distillation") == pytest.approx(curves(plain, "train/distillation"), rel=1e-3)


@pytest.mark.slow
def test_two_processes_learn_as_one(tmp_path, teacher):
    shape = ["dataset.document_boundaries=true", "dataset.batch_size=8", "objective.weight=1"]
    one = run_of(distilled(tmp_path, teacher, *shape), tmp_path / "one")
    two = run_of(distilled(tmp_path, teacher, *shape, "trainer=ddp_cpu"), tmp_path / "two")
    assert two.config()["trainer"]["devices"] == 2
    for tag in ("train/loss", "train/distillation", "train/gradient_norm", "validation/loss"):
        assert curves(two, tag) == pytest.approx(curves(one, tag), rel=1e-5), tag


@pytest.mark.slow
def test_a_student_of_a_teacher_alone_learns_the_task(tmp_path, teacher):
    """It sees no target: what it knows of the text is its teacher's."""
    steps = ["trainer.max_steps=60", "objective.weight=1", "objective.temperature=1", "trainer.log_every=10"]
    run = run_of(distilled(tmp_path, teacher, *steps), tmp_path / "run")
    loss = curves(run, "validation/loss")
    assert max(loss.values()) - loss[60] > 0.1
    distillation = curves(run, "train/distillation")
    assert distillation[60] < distillation[1] / 2


MISTAKES: dict[str, tuple[tuple[str, ...], str]] = {
    "none": (
        ("objective.teacher=null",),
        "objective.teacher must be a run directory, a checkpoint or untouched, got None",
    ),
    "missing": (
        ("objective.teacher=nothing",),
        "objective.teacher: nothing is not a run directory: it has no config",
    ),
    "untouched": (
        ("objective.teacher=untouched",),
        "objective.teacher=untouched needs a pretrained model, which has its own positions, got Decoder",
    ),
    "weight": (("objective.weight=2",), "objective.weight must be a number in [0, 1], got 2"),
    "word": (
        ("objective.divergence=backward",),
        "objective.divergence must be one of forward, reverse, jensen_shannon",
    ),
    "width": (
        ("objective.match=hidden",),
        "model.d_model must be 32, the width of the teacher's hidden states, got 16",
    ),
    "compiled": (
        ("objective.match=hidden", "trainer.compile=true"),
        "trainer.compile must be false where objective.match=hidden",
    ),
    "compiled attention": (
        ("objective.match=attention", "trainer.compile=true"),
        "trainer.compile must be false where objective.match=attention",
    ),
    "relation heads": (
        ("objective.match=relations", "objective.relation_heads=3"),
        "objective.relation_heads must divide 16, the width of all heads of the student, got 3",
    ),
    "a teacher that reads less": (
        ("objective.teacher_length=15",),
        "objective.teacher_length must be at least dataset.sequence_length=16, got 15",
    ),
    "a teacher of no next tokens": (
        ("objective.teacher_length=32", "model=encoder"),
        "objective.teacher_length must be null unless a decoder predicts the next tokens of a text",
    ),
    "a teacher of private rows": (
        ("objective.teacher_length=32", "step=private"),
        "objective.teacher_length must be null with step=private",
    ),
    "two stacks": (
        ("model=encoder_decoder", "objective.match=relations"),
        "objective.match must be logits for EncoderDecoder, which has no single stack of attention layers",
    ),
    "source": (
        ("model=encoder_decoder", "objective.match=hidden"),
        "objective.match must be logits for EncoderDecoder, which has no hidden states",
    ),
    "task": (
        ("model=encoder",),
        "objective.teacher={} must be a model for the task of this run, got Decoder, which lacks",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_sentence_before_anything_slow(tmp_path, teacher, mistake):
    overrides, sentence = MISTAKES[mistake]
    with pytest.raises(ValueError) as error:
        check(distilled(tmp_path, teacher, *overrides))
    assert str(error.value).startswith(sentence.format(teacher.path)), error.value


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (
            lambda run: os.truncate(run.best_checkpoint, 900),
            "the checkpoint {}/checkpoints/best",
        ),
        (lambda run: run.best_checkpoint.unlink(), "there is no checkpoint {}/checkpoints"),
        (lambda run: (run.path / "tokenizer.json").write_text("[]"), "tokenizer '{}/tokenizer.json'"),
        (lambda run: run.config_file.write_text("seed: 1"), "{} is not a run directory"),
    ],
    ids=["half", "no checkpoint", "no tokenizer", "no configuration"],
)
def test_a_damaged_teacher_is_told_before_anything_slow(
    tmp_path, teacher, damage: Callable[[RunDirectory], object], sentence
):
    shutil.copytree(teacher.path, tmp_path / "source")
    damage(RunDirectory(tmp_path / "source"))
    with pytest.raises(ValueError) as error:
        check(distilled(tmp_path, str(tmp_path / "source")))
    assert str(error.value).startswith(f"objective.teacher: {sentence.format(tmp_path / 'source')}"), error.value


def test_positions_of_the_teacher_that_end_are_told(tmp_path):
    source = run_of(small(tmp_path, "encoding=learned", "trainer.max_steps=1"), tmp_path / "source")
    check(distilled(tmp_path, source, "dataset.sequence_length=32"))
    with pytest.raises(ValueError, match=r"^objective.within must be at"):
        check(distilled(tmp_path, source, "objective.within=17"))
    with pytest.raises(ValueError, match=r"^objective.teacher_length must be"):
        check(distilled(tmp_path, source, "objective.teacher_length=17"))


def test_another_tokenizer_is_told_before_training(tmp_path, teacher):
    config = distilled(tmp_path, teacher, "dataset.tokenizer=bpe", "dataset.vocab_size=300")
    with pytest.raises(ValueError, match="must have the tokenizer of"):
        run_of(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("match", ["hidden", "relations"])
def test_a_teacher_that_reads_other_patches_is_refused_whatever_is_matched(tmp_path, match):
    data = ["dataset=fashion_mnist", f"dataset.path={write_fashion(tmp_path / 'files')}", "dataset.side=12"]
    sizes = ["model.d_model=16", "model.num_layers=1", "model.num_heads=2", "trainer.max_steps=1", "trainer=cpu"]
    common = [*data, *sizes, "dataset.sides=[12]", f"dataset.cache_dir={tmp_path}/cache", "dataset.batch_size=8"]
    source = run_of(composed(*common, "dataset.patch=6"), tmp_path / "source")
    words = ["objective=distil", f"objective.teacher={source.path}", f"objective.match={match}", "dataset.patch=4"]
    with pytest.raises(ValueError, match="must read what this run"):
        run_of(composed(*common, *words), tmp_path / "run")


def classified(folder: Path, names: str, *overrides: str) -> dict[str, Any]:
    """A run on texts of one word and a number, with the classes of these letters."""
    file = folder / f"{names}.csv"
    rows = [f"{word} {number},{names[number % 2]}" for number, word in enumerate(TEXT.split()[:200])]
    file.write_text("\n".join(["text,label", *rows]))
    sizes = ["model.d_model=16", "model.num_layers=1", "model.num_heads=2", "trainer.max_steps=1"]
    data = ["dataset=classification_file", f"dataset.files={file}", "dataset.batch_size=4", "trainer=cpu"]
    return composed(*sizes, *data, "dataset.tokenizer=bytes", *overrides)


def test_other_classes_are_told_before_training(tmp_path):
    source = run_of(classified(tmp_path, "ab"), tmp_path / "source")
    distil = ["objective=distil", f"objective.teacher={source.path}"]
    run = run_of(classified(tmp_path, "ab", *distil), tmp_path / "same")
    assert "train/distillation" in {tag for _, tag, _ in recorded(run)}
    with pytest.raises(ValueError, match="predict what this run does"):
        run_of(classified(tmp_path, "ac", *distil), tmp_path / "other")


def test_a_teacher_that_reads_no_example_to_its_end_is_refused(tmp_path):
    source = run_of(classified(tmp_path, "ab"), tmp_path / "source")
    distil = ["objective=distil", f"objective.teacher={source.path}", "objective.within=2"]
    with pytest.raises(ValueError, match=r"^objective.within: the teacher has"):
        run_of(classified(tmp_path, "ab", *distil), tmp_path / "run")


def test_a_private_step_without_rows_is_not_taken_for_a_teacher_that_teaches_nothing(tmp_path):
    source = run_of(classified(tmp_path, "ab"), tmp_path / "source")
    seed = next(s for s in range(99) if IndependentOrder(160, 1, s).items(range(1)) == [160])
    words = ["step=private", "optimizer.gradient_clip=null", "dataset.batch_size=1", f"seed={seed}"]
    run_of(classified(tmp_path, "ab", *words, "objective=distil", f"objective.teacher={source.path}"), tmp_path / "run")


def test_a_run_that_resumes_with_a_teacher_that_has_taught_nothing_is_refused(tmp_path):
    source = run_of(classified(tmp_path, "ab"), tmp_path / "source")
    distil = ["objective=distil", f"objective.teacher={source.path}", "objective.within=2"]
    config = classified(tmp_path, "ab", *distil, "trainer.max_steps=5", "trainer.validations=1")
    stopped = stop_run(config, tmp_path / "run", step=2)
    assert lessons(stopped) == 0
    with pytest.raises(ValueError, match=r"^objective.within: the teacher has"):
        run_of(config, stopped.path, stopped.last_checkpoint)

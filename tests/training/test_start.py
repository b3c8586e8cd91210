"""Runs whose encoding begins by `start=`: what they begin with, resume with, share among processes and refuse."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

import poslab
from poslab.configuration.labels import label
from poslab.io.files import read_json
from poslab.pretrained.borrow import borrow
from poslab.runs.directory import RunDirectory
from poslab.training.checking import check
from tests.pretrained.conftest import folder as folder  # a fixture
from tests.pretrained.test_runs import configuration
from tests.training.runs import assert_resumes, composed, run_of, small, weights

ZERO = "trainer.max_steps=0"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, RunDirectory]:
    """A folder, and a run under learned positions in it."""
    path = tmp_path_factory.mktemp("start")
    return path, run_of(small(path, "encoding=learned", "dataset.length_multiples=[1]"), path / "learned")


def log_of(run: RunDirectory) -> str:
    return re.sub(r"\s+", " ", run.log_file.read_text())


def test_a_run_of_no_steps_measures_the_weights_that_it_begins_with(trained):
    folder, source = trained
    config = small(folder, f"init_from={source.path}", "encoding=learned", "dataset.length_multiples=[1]", ZERO)
    run = run_of(config, folder / "zero")
    before, after = weights(source.best_checkpoint), weights(run.best_checkpoint)
    torch.testing.assert_close(after, before, rtol=0, atol=0)
    found, known = run.metrics(), source.metrics()
    assert found["steps"] == 0
    assert found["test/loss"] == pytest.approx(known["test/loss"])
    assert found["validation/loss"] == pytest.approx(known["validation/loss"])
    assert torch.equal(weights(run.last_checkpoint)["embedding.weight"], before["embedding.weight"])


def test_runs_of_no_steps_are_pairs_as_others_are(trained):
    folder, source = trained
    starts = []
    for encoding in ("learned", "alibi"):
        words = [f"init_from={source.path}", f"encoding={encoding}", "dataset.length_multiples=[1]", ZERO]
        starts.append(read_json(run_of(small(folder, *words), folder / f"pair_{encoding}").start_file))
    assert starts[0] == starts[1] and all(starts[0].values())


def test_a_longer_table_begins_with_the_rows_of_a_run(trained):
    folder, source = trained
    words = [f"init_from={source.path}", "encoding=learned", "encoding.max_length=40", "start=copied", ZERO]
    run = run_of(small(folder, *words), folder / "copied")
    table = weights(run.best_checkpoint)["encodings.distinct.0.table.weight"]
    rows = weights(source.best_checkpoint)["encodings.distinct.0.table.weight"]
    assert torch.equal(table, torch.cat([rows, rows, rows])[:40])
    assert "start=copied: 40 rows of positions" in log_of(run)
    assert label(run.config()) == "learned max_length=40"


@pytest.mark.slow
def test_a_bias_of_a_run_is_fitted_to_that_run(trained):
    folder, source = trained
    words = [f"init_from={source.path}", "encoding=t5", "start=fitted", ZERO]
    runs = [run_of(small(folder, *words), folder / name) for name in ("fitted", "again")]
    first, second = (weights(run.best_checkpoint)["encodings.distinct.0.table"] for run in runs)
    assert torch.equal(first, second)
    fresh = run_of(small(folder, *words[:2], ZERO), folder / "fresh")
    assert not torch.equal(first, weights(fresh.best_checkpoint)["encodings.distinct.0.table"])
    assert re.search(r"start=fitted: T5Bias of layer 0 .* \d+%", log_of(runs[0]))


def test_random_numbers_of_a_run_are_the_same_under_every_start(trained):
    folder, source = trained
    words = [f"init_from={source.path}", "encoding=t5", "adapt=lora", ZERO]
    fresh, fitted = (
        weights(run_of(small(folder, *words, f"start={start}"), folder / f"lora_{start}").best_checkpoint)
        for start in ("fresh", "fitted")
    )
    assert {name for name in fresh if not torch.equal(fresh[name], fitted[name])} == {"encodings.distinct.0.table"}


@pytest.mark.parametrize(("name", "encoding"), [("llama", "t5"), ("bert", "kerple_log")])
def test_a_pretrained_model_is_fitted_to_its_own_positions(folder, name, encoding):
    config = configuration(folder, name, f"encoding={encoding}", "start=fitted", "start.batches=2")
    run, _ = assert_resumes(config, folder)
    assert "start=fitted: " in log_of(run)


def test_a_pretrained_model_begins_as_it_was_with_its_rows(folder):
    words = ["encoding=learned", "encoding.max_length=64", "start=copied", ZERO]
    run = run_of(configuration(folder, "bert", *words), folder / "run")
    ids = torch.arange(5, 25)[None]
    there, here = borrow(str(folder / "bert"))(ids), poslab.load(run.path)(ids)
    torch.testing.assert_close(here[..., :280], there, rtol=1e-4, atol=1e-4)  # the last row is that of the mask


@pytest.mark.slow
def test_processes_of_a_run_share_the_values_of_the_first(trained):
    folder, source = trained
    words = [
        f"init_from={source.path}",
        "encoding=t5",
        "start=fitted",
        "trainer=ddp_cpu",
        "trainer.precision=32-true",
        "trainer.max_steps=2",
    ]
    both = run_of(small(folder, *words), folder / "two")
    alone = run_of(small(folder, *words, "trainer.devices=1"), folder / "one")
    key = "encodings.distinct.0.table"
    torch.testing.assert_close(
        weights(both.last_checkpoint)[key], weights(alone.last_checkpoint)[key], rtol=0, atol=1e-5
    )


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (
            ["encoding=t5", "start=fitted"],
            "^start=fitted needs a model with",
        ),
        (["encoding=learned", "start=copied"], "^start=copied needs a model with"),
        (["encoding=t5", "start=fitted", "start.batches=0"], "^start.batches must be .*got 0$"),
        (["encoding=t5", "start=fitted", "init_from=nothing"], r"^init_from: "),
    ],
)
def test_mistakes_are_found_before_training(words, sentence):
    with pytest.raises(ValueError, match=sentence):
        check(composed("trainer=cpu", *words))


def test_mistakes_of_starts_of_runs_are_found_before_training(trained):
    folder, source = trained
    for words, sentence in (
        (["encoding=rotary", "start=copied"], r"^start=copied needs an encoding with a row"),
        (["encoding=shaw", "start=fitted"], r"^start=fitted needs an encoding that"),
        (
            ["encoding=t5", "start=fitted", "model.num_layers=2"],
            r"^start=fitted .* model.num_layers of 1, .* 2$",
        ),
        (["encoding=t5", "model.num_heads=4"], r"^model.num_heads must be 2, .* 4$"),
    ):
        with pytest.raises(ValueError, match=sentence):
            check(small(folder, f"init_from={source.path}", *words))


def test_own_positions_begin_as_they_are(folder):
    with pytest.raises(ValueError, match=r"^start must be fresh under"):
        check(configuration(folder, "bert", "encoding=pretrained", "start=copied"))

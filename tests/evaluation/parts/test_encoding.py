"""A report knows what an encoding began with, and says which numbers no training has set."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
import torch

import poslab
from poslab.evaluation.evaluation import Evaluation, evaluate
from poslab.evaluation.learned_bias import learned_parameters
from poslab.evaluation.opening import open_run
from poslab.evaluation.settings import Settings
from poslab.report.figures import Table
from poslab.runs.checkpoint import load_checkpoint, model_weights, save_atomically
from poslab.runs.directory import RunDirectory
from tests.training.runs import run_of, small

STEPS = ("trainer.max_steps=6", "optimizer.lr=0.1")
T5 = {"_partial_": True, "_target_": "poslab.encodings.T5Bias", "num_buckets": 32, "max_distance": 128}
ROTARY = {"_partial_": True, "_target_": "poslab.encodings.Rotary"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def first(folder: Path) -> RunDirectory:
    return run_of(small(folder, "encoding=kerple_log", *STEPS), folder / "first")


@pytest.fixture(scope="module")
def second(folder: Path, first: RunDirectory) -> RunDirectory:
    config = small(folder, "encoding=kerple_log", f"init_from={first.path}", "seed=5", *STEPS)
    return run_of(config, folder / "second")


def evaluated(run: RunDirectory) -> tuple[Evaluation, pd.DataFrame]:
    evaluation = evaluate([open_run(run.path)], Settings(["encoding"], lengths=[16]))
    figures = evaluation.sections[0].figures
    (table,) = [item for item in figures if isinstance(item, Table) and item.name == "learned_parameters"]
    return evaluation, table.frame


def forget_start(run: RunDirectory) -> None:
    """Make the best checkpoint that of a version which kept no start."""
    checkpoint = load_checkpoint(run.best_checkpoint)
    del checkpoint["callbacks"]["EncodingCurves"]["start"]
    save_atomically(checkpoint, run.best_checkpoint)


def test_a_run_from_other_weights_began_with_those_and_not_with_what_its_seed_draws(first, second):
    began = learned_parameters(poslab.load(first.path).encodings)["learned"]
    _, frame = evaluated(second)
    assert frame["start"].tolist() == began.tolist()
    assert frame["learned"].tolist() != began.tolist()


def test_a_run_that_has_kept_no_start_says_so_where_its_seed_does_not_tell(folder, first, second):
    _, frame = evaluated(first)
    for run in (first, second):
        forget_start(run)
    assert evaluated(first)[1]["start"].tolist() == frame["start"].tolist()
    evaluation, without = evaluated(second)
    assert "start" not in without
    assert "state of kerple_log is unknown" in evaluation.sections[0].text


def test_a_start_of_another_encoding_is_one_sentence(folder):
    run = run_of(small(folder, "encoding=t5", *STEPS), folder / "spoilt")
    checkpoint = load_checkpoint(run.best_checkpoint)
    checkpoint["callbacks"]["EncodingCurves"]["start"] = {"nobody": torch.zeros(3)}
    save_atomically(checkpoint, run.best_checkpoint)
    with pytest.raises(ValueError, match=r"^the checkpoint.*of another encoding$"):
        evaluated(run)


def test_a_run_that_has_not_ended_says_so_before_its_results(folder):
    run = run_of(small(folder, "encoding=none", *STEPS), folder / "interrupted")
    run.metrics_file.unlink()
    opened = open_run(run.path)
    (warning,) = opened.warnings
    assert "run of none is not finished" in warning and "6 steps" in warning
    evaluation = evaluate([opened], Settings(["extrapolation"], [16]))
    assert evaluation.lead.text == f"Take care: {warning}."


def test_a_swap_says_how_many_of_its_numbers_no_training_has_set(first):
    swapped = open_run(first.path, swap={"encoding": T5})
    assert swapped.untrained == {"T5Bias": 2 * 32}
    (warning,) = swapped.warnings
    assert warning.startswith("t5 learns 64 numbers") and "kerple_log -> t5" in warning
    assert open_run(first.path, swap={"encoding": ROTARY}).warnings == []
    assert open_run(first.path).warnings == []


def test_a_swap_keeps_the_weights_of_what_is_of_the_same_class_and_shape(folder):
    run = run_of(small(folder, "encoding=t5", "temperature=ssmax", *STEPS), folder / "ssmax")
    trained = model_weights(load_checkpoint(run.best_checkpoint))
    of_encodings = {name: weight for name, weight in trained.items() if name.startswith("encodings.")}
    assert len(of_encodings) == 2, "a table, and the scales of a layer"
    wider = open_run(run.path, swap={"encoding": T5 | {"max_distance": 64}})
    assert wider.warnings == []
    assert all(torch.equal(wider.model.state_dict()[name], weight) for name, weight in of_encodings.items())
    other = open_run(run.path, swap={"encoding": T5 | {"num_buckets": 16}})
    assert other.untrained == {"T5Bias": 2 * 16}, "not the scales of SSMax"


def test_a_swap_that_turns_otherwise_than_in_training_is_doubtful(folder):
    run = run_of(small(folder, "encoding=rotary", "encoding.base=300.0", *STEPS), folder / "rotary")
    rerope = {"_target_": "poslab.encodings.rotary.rerope.ReRoPE", "training_length": 16, "layout": "half_split"}
    others = {"fraction": 1.0, "scaling": None}
    assert open_run(run.path, swap={"encoding": {**rerope, **others, "base": 300.0}}).warnings == []
    (warning,) = open_run(run.path, swap={"encoding": {**rerope, **others, "base": 10_000.0}}).warnings
    assert warning.endswith("swap.base=300.0 is the same")
    assert open_run(run.path, swap={"encoding": ROTARY}).warnings == []


def test_a_swap_of_patterns_is_doubtful_where_a_layer_turns_otherwise_than_in_training(folder):
    chosen = ("encoding=rnope", "encoding.every=2", "encoding.base=300.0", "model.num_layers=3")
    run = run_of(small(folder, *chosen, *STEPS), folder / "rnope")

    def warnings(**bases):
        rerope = {"_target_": "poslab.encodings.rotary.rerope.ReRoPE", "_partial_": True, "training_length": 16}
        none = {"_target_": "poslab.encodings.absolute.none.NoPosition", "_partial_": True}
        pattern = {"_target_": "poslab.encodings.layers.alternating", "encodings": [rerope | bases, none]}
        return open_run(run.path, swap={"encoding": pattern}).warnings

    assert warnings(base=300.0) == []
    (warning,) = warnings()
    assert " has another base " in warning and "swap.base" not in warning


@pytest.mark.slow
@pytest.mark.parametrize(
    ("encoding", "title", "counts_tokens"),
    [("bipe", "Rotary diagnostics", False), ("bipe_alibi", "The encoding", False), ("alibi", "The encoding", True)],
)
def test_a_report_says_what_attention_counts_where_it_does_not_count_tokens(folder, encoding, title, counts_tokens):
    run = run_of(small(folder, f"encoding={encoding}", *STEPS), folder / encoding)
    settings = Settings(["encoding", "rotary"], lengths=[16])
    (section,) = evaluate([open_run(run.path)], settings).sections
    assert section.title == title
    assert ("Bilevel counts segments, not tokens" in section.text) != counts_tokens

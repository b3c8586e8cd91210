"""What of Lightning a configuration reaches: arguments of its Trainer, callbacks and loggers."""

from __future__ import annotations

import csv
import re
from importlib.util import find_spec

import pytest
from lightning.pytorch.loggers.logger import DummyLogger

from poslab.runs.directory import RunDirectory
from poslab.runs.trainer_settings import open_arguments
from poslab.training.checking import check
from tests.training.runs import CONF, composed, recorded, run_of, small, stop_run

NEVER_BETTER = ("callbacks=[early_stopping]", "callbacks.early_stopping.min_delta=100")
LIGHTNINGS = "+callbacks.x._target_=lightning.pytorch.callbacks."
SIX_VALIDATIONS = ("trainer.max_steps=6", "trainer.validations=6")


class Needing(DummyLogger):
    """A logger with an argument of its own."""

    def __init__(self, project: str, save_dir: str) -> None: ...


def validated(run: RunDirectory) -> list[int]:
    """Return the steps after which a run was validated."""
    return [step for step, tag, _ in recorded(run) if tag == "validation/loss"]


def test_arguments_reach_lightnings_trainer(tmp_path):
    whole = run_of(small(tmp_path), tmp_path / "whole")
    part = run_of(small(tmp_path, "+trainer.lightning.limit_val_batches=1"), tmp_path / "part")
    metrics = [{tag: value for step, tag, value in recorded(run) if step == 4} for run in (whole, part)]
    assert metrics[0]["train/loss"] == metrics[1]["train/loss"]
    assert metrics[0]["validation/loss"] != metrics[1]["validation/loss"]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("limit_val_batchs=3", "limit_val_batchs must be"),
        ("limit_val_batches=0", "limit_val_batches must be"),
        ("limit_val_batches=1.5", "it has to be in"),
        ("limit_val_batches=many", "limit_val_batches must be a"),
        ("max_time=soon", "not a valid duration"),
        ("max_steps=7", "max_steps must be left"),
        ("plugins=[x]", "plugins must be one of "),
        ("max_time={days:99999999999999}", "too large"),
        ("max_time=00:00:00:00", "max_time must be .*got 00:00:00:00"),
        ("max_time={seconds:-1}", "max_time must be above 0"),
        ("max_time={days:1,_target_:os.system}", "_target_"),
    ],
)
def test_arguments_that_it_does_not_take_are_refused(given, said):
    with pytest.raises(ValueError, match=rf"^trainer\.lightning.*{said}"):
        check(composed(f"+trainer.lightning.{given}"))


def test_the_guide_lists_the_arguments_that_pass():
    paragraphs = (CONF.parent / "docs" / "guides" / "training.md").read_text().split("\n\n")
    (listing,) = (text for text in paragraphs if "`limit_val_batches`" in text)
    assert re.findall(r"`(\w+)`", listing) == open_arguments()


@pytest.mark.parametrize("given", ["5", "[1]", "{1:2}", "many"])
def test_arguments_must_have_names(given):
    with pytest.raises(ValueError, match=r"^trainer\.lightning must be values"):
        check(composed(f"trainer.lightning={given}"))


def test_early_stopping_ends_training_and_tests_the_best_state(tmp_path):
    config = small(tmp_path, *NEVER_BETTER, *SIX_VALIDATIONS, "callbacks.early_stopping.patience=2")
    run = run_of(config, tmp_path / "run")
    assert validated(run) == [1, 2, 3]
    assert run.metrics()["steps"] == 3
    best = min(value for _, tag, value in recorded(run) if tag == "validation/loss")
    assert run.metrics()["validation/loss"] == best and "test/loss" in run.metrics()
    assert "training ends early: Monitored metric validation/loss" in run.log_file.read_text()


def test_early_stopping_can_follow_any_metric_at_one_length(tmp_path):
    monitor = "callbacks.early_stopping.monitor=validation/perplexity@16"
    config = small(tmp_path, *NEVER_BETTER, *SIX_VALIDATIONS, monitor, "callbacks.early_stopping.patience=1")
    run = run_of(config, tmp_path / "run")
    assert validated(run) == [1, 2] and "validation/perplexity@16" in run.metrics()


def test_early_stopping_counts_on_in_a_run_that_resumes(tmp_path):
    config = small(tmp_path, *NEVER_BETTER, *SIX_VALIDATIONS, "callbacks.early_stopping.patience=2")
    run = stop_run(config, tmp_path / "run", step=1)
    run_of(config, run.path, checkpoint=run.last_checkpoint)
    assert validated(run) == [1, 2, 3]


def test_a_run_that_had_stopped_early_trains_no_further_when_it_resumes(tmp_path):
    config = small(tmp_path, *NEVER_BETTER, *SIX_VALIDATIONS, "callbacks.early_stopping.patience=1")
    run = run_of(config, tmp_path / "run")
    run.metrics_file.unlink()  # as if it had been killed before its test
    run_of(config, run.path, checkpoint=run.last_checkpoint)
    assert validated(run) == [1, 2]
    assert run.metrics()["steps"] == 2


def test_a_run_whose_time_was_over_trains_no_further_when_it_resumes(tmp_path):
    over = ("+trainer.lightning.max_time={microseconds:1}", "callbacks=[early_stopping]")
    run = run_of(small(tmp_path, *over, *SIX_VALIDATIONS), tmp_path / "run")
    run.metrics_file.unlink()  # as if it had been killed before its test
    run_of(small(tmp_path, *over, *SIX_VALIDATIONS), run.path, checkpoint=run.last_checkpoint)
    assert validated(run) == [1]
    assert run.metrics()["steps"] == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            "callbacks=[early_stopping] +callbacks.again=${callbacks.early_stopping}",
            r"callbacks\.again must differ from",
        ),
        (
            "+callbacks.again={_target_:poslab.training.loggers.EncodingCurves}",
            r"callbacks\.again must differ from a",
        ),
        ("+trainer.lightning.limit_val_batches=0.0001", r"trainer: .*limit_val_batches"),
        (
            "+trainer.lightning.limit_val_batches=0.000001",
            "trainer: You requested to check 1e-06",
        ),
        (
            "callbacks=[early_stopping] callbacks.early_stopping.monitor=validation/los",
            ".*monitor must be one of",
        ),
        (f"{LIGHTNINGS}RichProgressBar", "callbacks: .* but found `RichProgressBar`"),
        (
            f"{LIGHTNINGS}Timer +callbacks.x.duration=soon",
            r"callbacks: `Timer\(duration='soon'\)` is",
        ),
    ],
)
def test_what_cannot_be_trained_is_one_sentence_and_leaves_no_run(tmp_path, words, said):
    with pytest.raises(ValueError, match=f"^{said}"):
        run_of(small(tmp_path, *words.split(), "trust=[lightning]"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_mistake_leaves_files_of_the_user_as_they_are(tmp_path):
    for name in ("tokenizer.json", "metrics.csv"):
        (tmp_path / name).write_text("mine")
    mistaken = small(tmp_path, "callbacks=[early_stopping]", "callbacks.early_stopping.monitor=validation/los")
    with pytest.raises(ValueError, match=r"monitor must be one of"):
        run_of(mistaken, tmp_path)
    assert {name: (tmp_path / name).read_text() for name in ("tokenizer.json", "metrics.csv")} == {
        "tokenizer.json": "mine",
        "metrics.csv": "mine",
    }


def test_a_run_records_where_its_loggers_are(tmp_path):
    chosen = run_of(small(tmp_path, "logger=[csv]"), tmp_path / "chosen")
    assert chosen.metrics_csv.exists() and not list(chosen.path.glob("events.out.*"))
    none = run_of(small(tmp_path, "logger=[]"), tmp_path / "none")
    assert not none.metrics_csv.exists() and not list(none.path.glob("events.out.*"))
    assert none.metrics()["test/loss"] == chosen.metrics()["test/loss"]


def test_a_logger_of_lightnings_own_records_the_same_metrics(tmp_path):
    named = "+logger.other._target_=lightning.pytorch.loggers.CSVLogger"
    with pytest.raises(ValueError, match="if you trust it, add"):
        check(small(tmp_path, named))
    run = run_of(small(tmp_path, named, "trust=[lightning]"), tmp_path / "run")
    (file,) = run.path.glob("lightning_logs/*/metrics.csv")
    with file.open(newline="") as lines:
        losses = [float(row["train/loss"]) for row in csv.DictReader(lines) if row["train/loss"]]
    assert losses == [value for _, tag, value in recorded(run) if tag == "train/loss"]


def test_an_argument_that_a_logger_needs_is_named_before_training():
    named = "+logger.other._target_=lightning.pytorch.loggers.logger.DummyLogger"
    check(composed(named, "trust=[lightning]"))
    with pytest.raises(ValueError, match=r"^logger\.other\.project must be"):
        check(composed(f"+logger.other._target_={__name__}.Needing", "trust=[tests]"))


@pytest.mark.skipif(find_spec("comet_ml") is not None, reason="comet_ml is installed")
def test_a_logger_whose_package_is_missing_is_one_sentence(tmp_path):
    named = "+logger.other._target_=lightning.pytorch.loggers.CometLogger"
    with pytest.raises(ValueError, match=r"^logger other needs a package that"):
        run_of(small(tmp_path, named, "trust=[lightning]"), tmp_path / "run")
    assert not (tmp_path / "run").exists()

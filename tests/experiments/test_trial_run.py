from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from optuna.pruners import BasePruner
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from poslab.experiments import run as job_run
from poslab.experiments.jobs import Attempt, DatabaseLedger, Failure, Record
from poslab.experiments.search import METRICS, SweepJobs, trial_directory
from poslab.experiments.storage import open_storage
from poslab.experiments.trial_run import TrialConfigurations, train_trial
from poslab.experiments.worker import run_job
from poslab.io.files import read_json
from poslab.runs.directory import RunDirectory
from poslab.runs.errors import RunInterruptedError
from tests.training.runs import recorded, stop_run

from .sweeps import CONF, joined, small_sweep, taken


class PruneAtOnce(BasePruner):
    """Prunes every trial but the first, at the first value that it reports."""

    def prune(self, study: Study, trial: FrozenTrial) -> bool:
        return trial.number > 0


class LoseTheDirectory(BasePruner):
    """Prunes nothing; removes a directory once, while its trial is trained."""

    def __init__(self, directory: str) -> None:
        self.directory = directory

    def prune(self, study: Study, trial: FrozenTrial) -> bool:
        was_lost = Path(self.directory).parents[1] / "was_lost"
        if not was_lost.exists():
            was_lost.touch()
            shutil.rmtree(self.directory)
        return False


PRUNE_AT_ONCE = {"_target_": f"{PruneAtOnce.__module__}.PruneAtOnce"}


def nothing() -> None:
    """Nobody asks to stop."""


def run_next(study: SweepJobs) -> FrozenTrial:
    """Takes a trial and runs it to its end."""
    job = taken(study)
    run_job(study, job, partial(train_trial, study, TrialConfigurations(CONF, study.sweep)), nothing)
    return study.trials()[job.key]


def other_study(folder: Path) -> SweepJobs:
    """Return a study that knows nothing of the trials whose runs lie in the folder."""
    return joined(small_sweep(folder, name="other", storage=f"sqlite:///{folder / 'other.db'}"))


def first_trial(folder: Path, *overrides: str, default: dict[str, Any] | None = None, **given: Any) -> FrozenTrial:
    """Runs the first trial of a small sweep to its end."""
    sweep = small_sweep(folder, *overrides, **given)
    return run_next(joined(sweep, default))


def last_attempt(folder: Path) -> Attempt:
    """The last attempt at the first trial of the small sweep of a folder."""
    sweep = small_sweep(folder)
    return Record.of(DatabaseLedger(open_storage(sweep).engine, sweep.name).read()["0"]).attempts[-1]


def failure_of_first(folder: Path) -> Failure:
    failure = last_attempt(folder).failure
    assert failure is not None
    return failure


def run_of_first(folder: Path) -> RunDirectory:
    return RunDirectory.of(trial_directory(small_sweep(folder), 0))


def test_a_trial_is_a_run_whose_validation_is_its_value(tmp_path):
    trial, run = first_trial(tmp_path), run_of_first(tmp_path)

    metrics = run.metrics()
    assert trial.state == TrialState.COMPLETE
    assert trial.params == {"encoding.base": 10000.0, "encoding.fraction": 1.0}, "trial 0 is the default"
    assert trial.value == (metrics["validation/bits_per_byte@16"] + metrics["validation/bits_per_byte@32"]) / 2
    assert trial.user_attrs[METRICS] == metrics
    assert not any(tag.startswith("test/") for tag in metrics)
    assert run.config()["encoding"]["base"] == 10000.0

    figures = {(step, tag): value for step, tag, value in recorded(run)}
    for validation, step in ((1, 2), (2, 4)):
        at_both = [figures[step, f"validation/bits_per_byte@{length}"] for length in (16, 32)]
        assert trial.intermediate_values[validation] == pytest.approx(sum(at_both) / 2, rel=1e-6)


@pytest.mark.slow
def test_a_pruned_trial_ends_after_its_validation(tmp_path):
    sweep = small_sweep(tmp_path, pruner=PRUNE_AT_ONCE)
    study = joined(sweep)

    first, second = run_next(study), run_next(study)

    assert first.state == TrialState.COMPLETE
    assert second.state == TrialState.PRUNED
    assert list(second.intermediate_values) == [1]
    assert not RunDirectory.of(trial_directory(sweep, 1)).is_finished
    assert "4,train/loss" not in (trial_directory(sweep, 1) / "metrics.csv").read_text()


def test_a_loss_that_is_no_number_fails_the_trial_and_is_not_tried_again(tmp_path):
    trial = first_trial(tmp_path, "optimizer.lr=1e9", "optimizer.gradient_clip=null", "optimizer.warmup_fraction=0")

    assert trial.state == TrialState.FAIL
    assert "loss at step" in failure_of_first(tmp_path).reason
    assert not failure_of_first(tmp_path).can_pass


def test_a_configuration_that_cannot_be_fails_the_trial_with_its_sentence(tmp_path):
    space = {"encoding.fraction": {"float": [0.1, 1.0]}}  # 8 channels a head: few fractions of them are even numbers
    trial = first_trial(tmp_path, space=space, default={"encoding.fraction": 0.4})

    assert trial.state == TrialState.FAIL
    assert "encoding.fraction" in failure_of_first(tmp_path).reason
    assert not failure_of_first(tmp_path).can_pass


def test_out_of_memory_fails_the_trial_and_may_pass(tmp_path, monkeypatch):
    def without_memory(*_: object) -> None:
        raise MemoryError("no memory left")

    monkeypatch.setattr(job_run, "train", without_memory)
    trial = first_trial(tmp_path)

    assert not trial.state.is_finished()
    assert failure_of_first(tmp_path).reason == "MemoryError: no memory left"
    assert failure_of_first(tmp_path).can_pass


@pytest.mark.slow
def test_a_trial_that_was_stopped_goes_on_where_it_was(tmp_path, monkeypatch):
    expected = first_trial(tmp_path, output=str(tmp_path / "undisturbed"), name="undisturbed")

    sweep = small_sweep(tmp_path, "trainer.saves=4")
    study = joined(sweep)
    job = taken(study)

    def stopped_after_step_3(plan: Any, settings: Any, observer: Any) -> None:
        def and_then_signalled(step: int, figures: Mapping[str, float]) -> str | None:
            if step == 2:
                signal.raise_signal(signal.SIGTERM)
            answer: str | None = observer(step, figures)
            return answer

        train(plan, settings, and_then_signalled)

    train = job_run.train
    with monkeypatch.context() as patch, pytest.raises(RunInterruptedError):
        patch.setattr(job_run, "train", stopped_after_step_3)
        run_job(study, job, partial(train_trial, study, TrialConfigurations(CONF, sweep)), nothing)
    assert study.trials()[job.key].state == TrialState.WAITING

    again = run_next(study)

    assert again.number == 0
    assert again.state == TrialState.COMPLETE
    assert again.value == expected.value
    assert len(read_json(trial_directory(sweep, 0) / "environment.json")["resumed"]) == 1


def test_a_finished_run_whose_worker_was_killed_before_it_told_is_not_trained_again(tmp_path):
    expected = first_trial(tmp_path)
    metrics_file = run_of_first(tmp_path).metrics_file
    written = metrics_file.stat().st_mtime_ns

    assert run_next(other_study(tmp_path)).value == expected.value
    assert metrics_file.stat().st_mtime_ns == written


@pytest.mark.slow
@pytest.mark.parametrize("damaged", ["checkpoints/last.safetensors", "config.yaml", "environment.json", None])
def test_a_trial_whose_run_is_damaged_begins_anew(damaged, tmp_path):
    sweep = small_sweep(tmp_path, "trainer.saves=4")
    run = stop_run(TrialConfigurations(CONF, sweep).of({}), trial_directory(sweep, 0), step=2)
    if damaged is not None:
        os.truncate(run.path / damaged, (run.path / damaged).stat().st_size // 2)

    trial = run_next(joined(sweep))

    assert trial.state == TrialState.COMPLETE, last_attempt(tmp_path)
    assert run.path.with_name("0000.damaged").exists() == (damaged is not None)
    assert run.metrics()["steps"] == 4


def test_a_run_that_was_killed_before_its_configuration_was_written_sets_nothing_aside(tmp_path):
    sweep = small_sweep(tmp_path)
    directory = trial_directory(sweep, 0)
    (directory / "checkpoints").mkdir(parents=True)
    (directory / "train.log").touch()
    (directory / ".config.yaml.0123456789abcdef.writing").write_text("model:")

    assert run_next(joined(sweep)).state == TrialState.COMPLETE
    assert [entry.name for entry in directory.parent.iterdir()] == [directory.name]


@pytest.mark.slow
def test_a_finished_trial_whose_figures_are_damaged_begins_anew(tmp_path, capsys):
    """The line that says so has nothing that a terminal would obey."""
    expected = first_trial(tmp_path)
    run_of_first(tmp_path).metrics_file.write_text('{"\\u001b[2J\\nsteps": "4"}')

    assert run_next(other_study(tmp_path)).value == expected.value
    said = [line for line in capsys.readouterr().out.splitlines() if "from step 0" in line]
    assert len(said) == 1 and said[0].endswith("steps must be a number, got '4'") and "\x1b" not in said[0]


@pytest.mark.slow
def test_a_trial_whose_directory_vanishes_while_it_is_trained_is_tried_again(tmp_path):
    directory = trial_directory(small_sweep(tmp_path), 0)
    pruner = {"_target_": f"{LoseTheDirectory.__module__}.LoseTheDirectory", "directory": str(directory)}
    sweep = small_sweep(tmp_path, n_trials=1, pruner=pruner)
    study = joined(sweep)

    lost, again = run_next(study), run_next(study)

    assert not lost.state.is_finished()
    assert again.state == TrialState.COMPLETE
    assert RunDirectory(directory).metrics()["steps"] == 4


def test_several_seeds_are_runs_of_their_own_whose_mean_counts(tmp_path):
    trial = first_trial(tmp_path, seeds=2, objectives=["validation/loss"])

    runs = [RunDirectory.of(trial_directory(small_sweep(tmp_path), 0) / f"seed_{seed}") for seed in (1, 2)]
    losses = [run.metrics()["validation/loss"] for run in runs]
    assert [run.config()["dataset"]["seed"] for run in runs] == [1, 2]
    assert losses[0] != losses[1]
    assert trial.value == sum(losses) / 2


@pytest.mark.slow
def test_several_seeds_are_pruned_between_them(tmp_path):
    sweep = small_sweep(tmp_path, seeds=2, objectives=["validation/loss"], pruner=PRUNE_AT_ONCE)
    study = joined(sweep)
    first, second = run_next(study), run_next(study)

    assert (first.state, len(first.intermediate_values)) == (TrialState.COMPLETE, 2)
    assert (second.state, len(second.intermediate_values)) == (TrialState.PRUNED, 1)


def test_two_objectives_are_two_values(tmp_path):
    speed = {"mean": ["train/tokens_per_second"], "direction": "maximize"}
    trial = first_trial(tmp_path, objectives=["validation/loss", speed])

    metrics = run_of_first(tmp_path).metrics()
    assert trial.values == [metrics["validation/loss"], metrics["train/tokens_per_second"]]

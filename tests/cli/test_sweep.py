"""`python -m src.sweep`, as a user types it, with real workers that train real runs."""

from __future__ import annotations

import contextlib
import csv
import json
import shutil
import signal
import sqlite3
import sys
import time
from collections.abc import Callable
from pathlib import Path

import optuna
import psutil
import pytest
import sqlalchemy
import yaml
from optuna.trial import TrialState
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

from poslab.experiments.jobs import LOST, DatabaseLedger, Record
from poslab.runs.directory import RunDirectory

from .running import ROOT, Ended, Running, metrics, python, start_sweep


@pytest.fixture(scope="session")
def sweep(tiny: list[str]) -> list[str]:
    """The arguments of a small sweep."""
    return ["trainer=cpu", *tiny, "trainer.max_steps=20", "trainer.validations=2"]


@pytest.fixture(scope="session")
def swept(once: Callable[..., Path], sweep: list[str]) -> tuple[Path, str]:
    """The output of such a sweep by one worker and what it has printed."""

    def make(folder: Path) -> None:
        folder.mkdir()
        ended = run_sweep(folder, *sweep)
        assert ended.status == 0, ended
        (folder / "output.txt").write_text(ended.output)

    folder = once("swept", make)
    return folder / "out", (folder / "output.txt").read_text()


def run_sweep(directory: Path, *arguments: str) -> Ended:
    return start_sweep(directory, *arguments).wait(200)


def study_of(output: Path) -> optuna.Study:
    return optuna.load_study(study_name=None, storage=f"sqlite:///{output / 'study.db'}")


def records_of(output: Path, name: str = "question") -> list[Record]:
    engine = sqlalchemy.create_engine(f"sqlite:///{output / 'study.db'}")
    return [Record.of(node) for key, node in DatabaseLedger(engine, name).read().items() if key != "study"]


@pytest.mark.slow
def test_a_sweep_from_its_question_to_the_training_of_its_best(tmp_path, swept):
    out, output = swept
    study = study_of(out)
    assert [trial.number for trial in study.trials] == [0, 1, 2, 3]
    assert all(trial.state in (TrialState.COMPLETE, TrialState.PRUNED) for trial in study.trials)
    assert study.trials[0].params == {"encoding.base": 10000.0, "encoding.fraction": 1.0}
    with (out / "trials.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["trial"]) for row in rows] == [0, 1, 2, 3]
    best = study.best_trial
    tested = [n for n in range(4) if any(t.startswith("test/") for t in metrics_of(out, n))]
    assert tested == [best.number]
    assert f"Test of trial {best.number}" in output
    for name in ("history", "slices"):
        assert (out / "figures" / f"{name}.png").stat().st_size > 5000
    assert "Does it work?" in (out / "report.html").read_text()

    command = next(line for line in output.splitlines() if "--config-dir" in line).split("train the best")[1]
    again = tmp_path / "again"
    trained = Running([sys.executable, *command.split()[1:], f"hydra.run.dir={again}"], out.parent, None).wait(120)
    assert trained.status == 0, trained
    assert metrics(again) == metrics(out / "trials" / f"{best.number:04}")


@pytest.mark.slow
def test_a_best_trial_that_can_no_longer_be_tested_leaves_the_report(tmp_path, swept, sweep):
    shutil.copytree(swept[0].parent, tmp_path, dirs_exist_ok=True)
    best = RunDirectory(tmp_path / "out" / "trials" / f"{study_of(tmp_path / 'out').best_trial.number:04}")
    untested = {tag: value for tag, value in best.metrics().items() if not tag.startswith("test/")}
    (best.path / "metrics.json").write_text(json.dumps(untested))
    best.best_checkpoint.write_bytes(best.best_checkpoint.read_bytes()[:1000])
    (tmp_path / "out" / "report.html").unlink()
    ended = run_sweep(tmp_path, *sweep)
    assert ended.status == 0, ended
    assert ended.errors.startswith("warning: the best trial")
    assert ended.errors.count("\n") == 1
    assert (tmp_path / "out" / "report.html").exists()


def metrics_of(output: Path, number: int) -> dict[str, float]:
    run = RunDirectory(output / "trials" / f"{number:04}")
    return run.metrics() if run.is_finished else {}


@pytest.mark.slow
def test_one_worker_with_a_seed_gives_the_same_trials_again_also_when_it_was_stopped(tmp_path, sweep, swept):
    stopped = start_sweep(tmp_path, *sweep, "trainer.saves=20")
    stopped.wait_until(lambda: (tmp_path / "out" / "trials" / "0001" / "metrics.csv").exists())
    stopped.ask_to_stop(signal.SIGINT)
    ended = stopped.wait(60)
    assert ended.status == 130, ended
    assert ended.errors.strip() == "error: stopped by SIGINT"
    assert "resume with the same command" in ended.output
    assert not [t for t in study_of(tmp_path / "out").trials if t.state == TrialState.RUNNING]
    ended = run_sweep(tmp_path, *sweep, "trainer.saves=20")
    assert ended.status == 0, ended
    assert "resuming" in ended.output

    first, again = study_of(swept[0]).trials, study_of(tmp_path / "out").trials
    assert [(t.params, t.values, t.state) for t in first] == [(t.params, t.values, t.state) for t in again]


def suspend_without_a_lock(process: psutil.Process, database: Path) -> None:
    """Suspend a process while it writes nothing: a database that it had locked would be locked for all."""
    while True:
        process.suspend()
        with contextlib.suppress(sqlite3.OperationalError), sqlite3.connect(database, timeout=0.5) as connection:
            connection.execute("begin immediate")
            connection.rollback()
            return
        process.resume()
        time.sleep(0.1)


@pytest.mark.slow
def test_a_worker_without_heartbeats_is_ended_and_its_trial_tried_again(tmp_path, sweep):
    running = start_sweep(tmp_path, *sweep, "preset=short", "lost_after=6", "name=question_short", "n_trials=1")
    out = tmp_path / "out"
    running.wait_until(lambda: (out / "trials" / "0000" / "metrics.csv").exists())
    worker = next(p for p in running.descendants() if "poslab.experiments.worker" in p.cmdline())
    suspend_without_a_lock(worker, out / "study.db")
    ended = running.wait(120)

    assert ended.status == 0, ended
    (record,) = records_of(out, "question_short")
    assert [attempt.failure.reason for attempt in record.attempts if attempt.failure is not None] == [LOST.reason]
    assert record.outcome is not None and len(record.attempts) == 2
    assert "failed" in ended.output
    assert "attempt 2" in ended.output


@pytest.mark.slow
def test_a_budget_that_grows_goes_on_with_the_trials_there_are(tmp_path, sweep, swept):
    shutil.copytree(swept[0], tmp_path / "out")
    before = study_of(tmp_path / "out").trials

    ended = run_sweep(tmp_path, *sweep, "n_trials=5")

    assert ended.status == 0, ended
    trials = study_of(tmp_path / "out").trials
    assert len(trials) == 5
    assert [trial.datetime_complete for trial in trials[:4]] == [trial.datetime_complete for trial in before]
    assert "resuming: 4 of 5" in ended.output

    other = run_sweep(tmp_path, *sweep, "dataset.batch_size=8")
    assert other.status == 2
    assert "another dataset.batch_size" in other.errors


@pytest.mark.slow
def test_two_processes_of_a_trial_are_pruned_together(tmp_path, sweep):
    pruner = "pruner={_target_:tests.experiments.test_trial_run.PruneAtOnce}"
    two = ["trainer.devices=2", "trainer.strategy=ddp", "n_trials=2"]
    ended = run_sweep(tmp_path, *sweep, pruner, "trust=tests", *two)

    assert ended.status == 0, ended
    assert "pruned" in ended.output
    run = RunDirectory.of(tmp_path / "out" / "trials" / "0001")
    assert not run.is_held
    assert not run.is_finished
    assert "error: " not in ended.errors


@pytest.mark.slow
def test_commands_that_srun_starts_side_by_side_share_a_sweep(tmp_path, sweep):
    of_slurm = {"SLURM_NTASKS": "2", "SLURM_JOB_NAME": "sweep", "SLURM_JOB_ID": "1"}
    commands = [start_sweep(tmp_path, *sweep, environment={**of_slurm, "SLURM_PROCID": task}) for task in "01"]

    for command in commands:
        ended = command.wait(200)
        assert ended.status == 0, ended
    trials = study_of(tmp_path / "out").trials
    assert [trial.number for trial in trials if trial.state.is_finished()] == [0, 1, 2, 3]
    assert len({attempt.worker for record in records_of(tmp_path / "out") for attempt in record.attempts}) == 2
    assert all((tmp_path / "out" / "trials" / f"{number:04}" / "metrics.csv").exists() for number in range(4))


@pytest.mark.slow
def test_a_sweep_shows_all_its_trials_in_tensorboard(swept):
    for number in range(4):
        events = EventAccumulator(str(swept[0] / "trials" / f"{number:04}")).Reload()
        assert "validation/bits_per_byte@128" in events.Tags()["scalars"]
        content = events.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
        session = HParamsPluginData.FromString(content).session_start_info
        assert session.hparams["encoding.base"].number_value > 0


@pytest.mark.slow
def test_a_mistake_is_one_sentence_of_a_process_of_its_own_too(tmp_path):
    ended = Running(python("-m", "src.sweep", "sweep=rotary_base", "model.head_dim=6"), tmp_path).wait()

    assert ended.status == 2
    assert ended.errors.startswith("error: space.encoding.fraction at ")
    assert ended.errors.count("\n") == 1


def test_help_names_every_sweep_and_every_key():
    shown = Running(python("-m", "src.sweep", "--help"), ROOT, imports=True).wait().output

    for file in set((ROOT / "sweeps").glob("*.yaml")) - {ROOT / "sweeps" / "defaults.yaml"}:
        assert file.stem in shown
        assert yaml.safe_load(file.read_text())["question"] in " ".join(shown.split())
    assert all(len(line) <= 80 for line in shown.splitlines())

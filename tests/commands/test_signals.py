"""SIGTERM and Ctrl-C save a run and end it, and it goes on from there as if nothing had been."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from .running import IN_THE_TEST, STEPS, VALIDATE_EVERY, Running, assert_same_run, at_step, checkpoint, recorded

pytestmark = pytest.mark.slow

OVERRIDES = ["trainer=cpu", "model.dropout=0.1"]


def test_ctrl_c_saves_and_ends_the_run_which_then_goes_on_bitwise_the_same(
    start: Callable[..., Running], alone: Callable[..., Path], tiny: list[str], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    running = start(*tiny, *OVERRIDES, f"hydra.run.dir={run}")
    running.wait_until(lambda: recorded(run, VALIDATE_EVERY + 5))
    running.ask_to_stop(signal.SIGINT)
    assert_interrupted(running, signal.SIGINT)
    assert VALIDATE_EVERY + 5 <= checkpoint(run, "last")["global_step"] < STEPS
    assert start("resume=run").wait().status == 0
    assert_same_run(run, alone("dropout", *OVERRIDES))


def test_sigterm_saves_after_the_present_step_be_it_the_first_the_last_one_before_a_validation_or_in_the_test(
    start: Callable[..., Running], alone: Callable[..., Path], tiny: list[str], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    moments = {1: at_step(1), VALIDATE_EVERY: at_step(VALIDATE_EVERY), STEPS: at_step(STEPS)}
    for number, (step, moment) in enumerate([*moments.items(), (STEPS, IN_THE_TEST)]):
        how = ["resume=run"] if run.exists() else [*tiny, *OVERRIDES, f"hydra.run.dir={run}"]
        running = start(*how, environment=moment.environment(tmp_path / str(number), signal.SIGTERM))
        assert_interrupted(running, signal.SIGTERM)
        assert checkpoint(run, "last")["global_step"] == step
    assert start("resume=run").wait().status == 0
    assert_same_run(run, alone("dropout", *OVERRIDES))


def test_sigterm_to_a_group_with_processes_that_load_data_saves_too(
    start: Callable[..., Running], alone: Callable[..., Path], tiny: list[str], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    running = start(*tiny, *OVERRIDES, "dataset.num_workers=2", f"hydra.run.dir={run}")
    running.wait_until(lambda: recorded(run, VALIDATE_EVERY + 5))
    running.ask_to_stop(signal.SIGTERM)
    assert_interrupted(running, signal.SIGTERM)
    assert start("resume=run").wait().status == 0
    assert_same_run(run, alone("dropout", *OVERRIDES))


def assert_interrupted(running: Running, number: signal.Signals) -> None:
    ended = running.wait()
    assert (ended.status, ended.errors) == (128 + number, f"error: stopped by {number.name}\n")
    assert ended.output.splitlines()[-1] == "go on with: python -m src.train resume=run"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("seconds", [0.8, 2.0])
def test_a_signal_before_training_ends_the_command_at_once_and_leaves_nothing(
    number: signal.Signals, seconds: float, start: Callable[..., Running], tiny: list[str], tmp_path: Path
) -> None:
    running = start(*tiny, *OVERRIDES)
    time.sleep(seconds)
    running.ask_to_stop(number)
    ended = running.wait(5)
    assert ended.status == 128 + number
    assert "Traceback" not in ended.errors
    assert ended.errors in ("", f"error: stopped by {number.name}\n")  # none before there is a run
    assert bool(ended.errors) == any((tmp_path / "outputs").glob("*"))


def test_a_second_ctrl_c_ends_at_once(start: Callable[..., Running], tiny: list[str], tmp_path: Path) -> None:
    run = tmp_path / "run"
    slow = ["dataset.batch_size=2048"]  # some seconds a step
    running = start(*tiny, *OVERRIDES, *slow, f"hydra.run.dir={run}")
    running.wait_until((run / "metrics.csv").exists)
    time.sleep(1)
    running.ask_to_stop(signal.SIGINT)
    time.sleep(0.5)
    assert running.process.poll() is None
    running.ask_to_stop(signal.SIGINT)
    ended = running.wait(5)
    assert (ended.status, ended.errors) == (130, "error: stopped by SIGINT\n")

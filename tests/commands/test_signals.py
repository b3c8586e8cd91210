"""SIGTERM and Ctrl-C save a run and end it, and it goes on from there as if nothing had been."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from .running import IN_THE_TEST, STEPS, VALIDATE_EVERY, Running, assert_same_run, at_step, checkpoint, python, recorded
from .test_sweep import QUESTION

pytestmark = pytest.mark.slow

OVERRIDES = ["trainer=cpu", "model.dropout=0.1"]


def test_ctrl_c_saves_and_ends_the_run_which_then_goes_on_bitwise_the_same(start, alone, tiny, tmp_path):
    run = tmp_path / "run"
    running = start(*tiny, *OVERRIDES, f"hydra.run.dir={run}")
    running.wait_until(lambda: recorded(run, VALIDATE_EVERY + 5))
    running.ask_to_stop(signal.SIGINT)
    assert_interrupted(running, signal.SIGINT)
    assert VALIDATE_EVERY + 5 <= checkpoint(run, "last")["global_step"] < STEPS
    assert start("resume=run").wait().status == 0
    assert_same_run(run, alone("dropout", *OVERRIDES))


def test_sigterm_saves_after_the_present_step_be_it_the_first_the_last_one_before_a_validation_or_in_the_test(
    start, alone, tiny, tmp_path
):
    run = tmp_path / "run"
    moments = {1: at_step(1), VALIDATE_EVERY: at_step(VALIDATE_EVERY), STEPS: at_step(STEPS)}
    for number, (step, moment) in enumerate([*moments.items(), (STEPS, IN_THE_TEST)]):
        how = ["resume=run"] if run.exists() else [*tiny, *OVERRIDES, f"hydra.run.dir={run}"]
        running = start(*how, environment=moment.environment(tmp_path / str(number), signal.SIGTERM))
        assert_interrupted(running, signal.SIGTERM)
        assert checkpoint(run, "last")["global_step"] == step
    assert start("resume=run").wait().status == 0
    assert_same_run(run, alone("dropout", *OVERRIDES))


def test_sigterm_to_a_group_with_processes_that_load_data_saves_too(start, alone, tiny, tmp_path):
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
    assert ended.output.splitlines()[-1] == "resume with: python -m src.train resume=run"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("seconds", [0.8, 2.0])
def test_a_signal_before_training_ends_the_command_at_once_and_leaves_nothing(number, seconds, start, tiny, tmp_path):
    running = start(*tiny, *OVERRIDES)
    time.sleep(seconds)
    running.ask_to_stop(number)
    ended = running.wait()
    assert ended.status == 128 + number
    assert "Traceback" not in ended.errors
    assert ended.errors in ("", f"error: stopped by {number.name}\n")  # none before there is a run
    assert bool(ended.errors) == any((tmp_path / "outputs").glob("*"))


def saved_before_step_30(
    start: Callable[..., Running], arguments: list[str], run: Path, condition: str = "True"
) -> tuple[Running, bytes]:
    """Start a run whose step 30 never returns, and wait for it; return its last checkpoint too."""
    stuck = run.parent / "stuck"
    running = start(*arguments, f"hydra.run.dir={run}", environment=at_step(30, condition).stuck(stuck))
    running.wait_until((stuck / "begun").exists, seconds=120)
    return running, (run / "checkpoints" / "last.ckpt").read_bytes()


def assert_second_signal_ends(running: Running, number: signal.Signals, process: int) -> None:
    os.kill(process, number)
    time.sleep(1)  # two signals within a moment are one
    assert running.process.poll() is None
    os.kill(process, number)
    ended = running.wait(30)
    assert (ended.status, ended.errors) == (128 + number, f"error: stopped by {number.name}\n"), ended


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_a_step_that_never_returns(number, start, tiny, tmp_path):
    run = tmp_path / "run"
    running, saved = saved_before_step_30(start, [*tiny, *OVERRIDES], run)
    assert_second_signal_ends(running, number, running.process.pid)
    assert (run / "checkpoints" / "last.ckpt").read_bytes() == saved


def test_a_second_signal_ends_a_run_of_two_processes(start, tiny, tmp_path):
    run = tmp_path / "run"
    running, saved = saved_before_step_30(start, [*tiny, "trainer=ddp_cpu"], run, "os.environ['RANK'] == '1'")
    processes = running.descendants()
    assert_second_signal_ends(running, signal.SIGTERM, running.process.pid)
    assert not psutil.wait_procs(processes, timeout=10)[1]
    assert (run / "checkpoints" / "last.ckpt").read_bytes() == saved


def test_a_second_signal_ends_a_sweep(tiny, tmp_path):
    (tmp_path / "question.yaml").write_text(QUESTION)
    stuck = at_step(30).stuck(tmp_path / "stuck")
    arguments = ["sweep=question.yaml", "output=out", "trainer=cpu", *tiny]
    running = Running(python("-m", "src.sweep", *arguments), tmp_path, stuck)
    running.wait_until((tmp_path / "stuck" / "begun").exists, seconds=120)
    processes = running.descendants()
    assert_second_signal_ends(running, signal.SIGTERM, running.process.pid)
    assert not psutil.wait_procs(processes, timeout=10)[1]

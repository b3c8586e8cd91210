"""SIGTERM and Ctrl-C save a run and end it, and it goes on from there as if nothing had been."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from .running import (
    IN_THE_TEST,
    STEPS,
    VALIDATE_EVERY,
    Moment,
    Running,
    assert_same_run,
    at_step,
    checkpoint,
    start_sweep,
)

pytestmark = pytest.mark.slow

PREPARING = Moment("poslab.data.run_data", "RunData", "prepare_data")


@pytest.mark.parametrize(
    ("number", "more"),
    [(signal.SIGINT, []), (signal.SIGTERM, ["dataset.num_workers=2"])],
    ids=["no loaders", "loaders"],
)
def test_a_signal_to_the_group_saves_and_ends_the_run_which_then_goes_on_bitwise_the_same(
    number, more, start, undisturbed, dropout, tmp_path
):
    """That of Ctrl-C, or one that reaches processes that load data too."""
    run = tmp_path / "run"
    running = start(*dropout, *more, f"hydra.run.dir={run}")
    running.wait_for_step(run, VALIDATE_EVERY + 5)
    running.ask_to_stop(number)
    assert_interrupted(running, number)
    assert VALIDATE_EVERY + 5 <= checkpoint(run, "last")["global_step"] < STEPS
    assert start("resume=run").wait().status == 0
    assert_same_run(run, undisturbed)


def test_sigterm_saves_after_the_present_step_be_it_the_first_the_last_one_before_a_validation_or_in_the_test(
    start, undisturbed, dropout, tmp_path
):
    run = tmp_path / "run"
    moments = {1: at_step(1), VALIDATE_EVERY: at_step(VALIDATE_EVERY), STEPS: at_step(STEPS)}
    for number, (step, moment) in enumerate([*moments.items(), (STEPS, IN_THE_TEST)]):
        how = ["resume=run"] if run.exists() else [*dropout, f"hydra.run.dir={run}"]
        running = start(*how, environment=moment.environment(tmp_path / str(number), signal.SIGTERM))
        assert_interrupted(running, signal.SIGTERM)
        assert checkpoint(run, "last")["global_step"] == step
    assert start("resume=run").wait().status == 0
    assert_same_run(run, undisturbed)


def assert_interrupted(running: Running, number: signal.Signals) -> None:
    ended = running.wait()
    assert (ended.status, ended.errors) == (128 + number, f"error: stopped by {number.name}\n")
    assert ended.output.splitlines()[-1] == "resume with: python -m src.train resume=run"


def catches_sigterm(pid: int) -> bool:
    """Return whether a process has a handler of SIGTERM, as commands have one before they import slow libraries."""
    caught = Path(f"/proc/{pid}/status").read_text().partition("SigCgt:")[2].split()[0]
    return bool(int(caught, 16) >> (signal.SIGTERM - 1) & 1)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_while_libraries_are_imported_ends_the_command_at_once_and_leaves_nothing(
    number, start, dropout, tmp_path
):
    running = start(*dropout, imports=True)
    running.wait_until(lambda: catches_sigterm(running.process.pid))
    running.ask_to_stop(number)
    ended = running.wait()
    assert (ended.status, ended.output, ended.errors) == (128 + number, "", "")
    assert not any((tmp_path / "outputs").glob("*"))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_while_lightning_prepares_data_ends_the_command_and_tells_how_to_resume(
    number, start, dropout, tmp_path
):
    run = tmp_path / "run"
    environment = PREPARING.environment(tmp_path / "moment", number)
    assert_interrupted(start(*dropout, f"hydra.run.dir={run}", environment=environment), number)


def saved_before_step_30(
    start: Callable[..., Running], arguments: list[str], run: Path, condition: str = "True"
) -> tuple[Running, bytes]:
    """Start a run whose step 30 never returns, and wait for it; return its last checkpoint too."""
    stuck = run.parent / "stuck"
    running = start(*arguments, f"hydra.run.dir={run}", environment=at_step(30, condition).stuck(stuck))
    running.wait_until((stuck / "begun").exists, seconds=120)
    return running, (run / "checkpoints" / "last.safetensors").read_bytes()


def assert_second_signal_ends(running: Running, number: signal.Signals, process: int) -> None:
    os.kill(process, number)
    time.sleep(1)  # two signals within a moment are one
    assert running.process.poll() is None
    deadline = time.monotonic() + 30
    while running.process.poll() is None and time.monotonic() < deadline:  # a busy machine may take more than a moment
        with contextlib.suppress(ProcessLookupError):  # it has just ended
            os.kill(process, number)
        time.sleep(1)
    ended = running.wait(1)
    assert (ended.status, ended.errors) == (128 + number, f"error: stopped by {number.name}\n"), ended


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_a_step_that_never_returns(number, start, dropout, tmp_path):
    run = tmp_path / "run"
    running, saved = saved_before_step_30(start, dropout, run)
    assert_second_signal_ends(running, number, running.process.pid)
    assert (run / "checkpoints" / "last.safetensors").read_bytes() == saved


def test_a_second_signal_ends_a_run_of_two_processes(start, tiny, tmp_path):
    run = tmp_path / "run"
    running, saved = saved_before_step_30(start, [*tiny, "trainer=ddp_cpu"], run, "os.environ['RANK'] == '1'")
    processes = running.descendants()
    assert_second_signal_ends(running, signal.SIGTERM, running.process.pid)
    assert not psutil.wait_procs(processes, timeout=10)[1]
    assert (run / "checkpoints" / "last.safetensors").read_bytes() == saved


def test_a_second_signal_ends_a_sweep(tiny, tmp_path):
    stuck = at_step(30).stuck(tmp_path / "stuck")
    running = start_sweep(tmp_path, "trainer=cpu", *tiny, environment=stuck)
    running.wait_until((tmp_path / "stuck" / "begun").exists, seconds=120)
    processes = running.descendants()
    assert_second_signal_ends(running, signal.SIGTERM, running.process.pid)
    assert not psutil.wait_procs(processes, timeout=10)[1]

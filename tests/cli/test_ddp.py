"""Two processes are one run: the figures, the files, the end and the messages of one."""

from __future__ import annotations

import re
import signal
import socket
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from poslab.runs.directory import RunDirectory

from .running import STEPS, assert_same_run, at_step, checkpoint, metrics, python, rows

pytestmark = pytest.mark.slow

BOUNDARIES = "dataset.document_boundaries=true"
TORCHRUN = python("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")
SLURM = {
    **{"SLURM_JOB_ID": "4242", "SLURM_NTASKS": "2", "SLURM_NTASKS_PER_NODE": "2", "SLURM_NNODES": "1"},
    **{"SLURM_NODEID": "0", "SLURM_NODELIST": "localhost", "SLURM_JOB_NAME": "poslab", "MASTER_ADDR": "127.0.0.1"},
}
JOBS = ["0_text_rotary", "1_text_alibi"]


@pytest.fixture(scope="session")
def jobs(alone: Callable[..., Path]) -> list[Path]:
    """The two runs of a multirun in two processes each; document boundaries make the processes' tokens unequal."""
    folder = alone("jobs", "-m", "encoding=rotary,alibi", "trainer=ddp_cpu", BOUNDARIES)
    return [folder / job for job in JOBS]


def assert_same_curves(one: Path, other: Path) -> None:
    """The same figures at the same steps, as far as the order of a sum in float32 lets them."""
    assert [row[:2] for row in rows(one)] == [row[:2] for row in rows(other)]
    for (step, tag, value), (_, _, expected) in zip(rows(one), rows(other), strict=True):
        assert float(value) == pytest.approx(float(expected), rel=1e-5), (step, tag)
    assert metrics(one) == pytest.approx(metrics(other), rel=1e-5)


def assert_gone(processes: list[psutil.Process]) -> None:
    """None of the processes that a command had started is left."""
    assert processes
    _, alive = psutil.wait_procs(processes, timeout=10)
    assert not alive


def test_a_multirun_in_two_processes_runs_each_job_once(jobs):
    assert sorted(path.name for path in jobs[0].parent.iterdir()) == [*JOBS, "multirun.yaml"]
    for run in jobs:
        assert metrics(run)["steps"] == STEPS
        log = (run / "train.log").read_text()
        assert log.count("parameters, 32-true") == 1, "one process alone prints"
        assert log.count("written to") == 1
        assert len(list(run.glob("events.out.*"))) == 1


def test_two_processes_learn_as_one_with_the_whole_batch(jobs, alone):
    assert_same_curves(jobs[0], alone("boundaries", "trainer=cpu", BOUNDARIES))


def test_two_processes_learn_as_one_where_some_weights_learn(alone):
    words = ["adapt=lora", "encoding=t5", BOUNDARIES]  # every choice where processes share the model: test_choices.py
    assert_same_curves(alone("two", "trainer=ddp_cpu", *words), alone("one", "trainer=cpu", *words))


def test_torchrun_starts_one_run(start, jobs, tiny, tmp_path):
    ended = start(*tiny, "trainer=ddp_cpu", BOUNDARIES, command=TORCHRUN).wait()
    assert ended.status == 0, ended
    (run,) = (tmp_path / "outputs").iterdir()
    assert_same_run(run, jobs[0])
    assert ended.output.count("written to") == 1


def test_a_mistake_that_the_first_process_alone_finds_ends_all_that_torchrun_started(start, tiny, tmp_path):
    with RunDirectory(tmp_path / "run").held():
        ended = start(*tiny, "trainer=ddp_cpu", "hydra.run.dir=run", command=TORCHRUN).wait(60)
    assert ended.errors.count("error: run is being trained by another process at this moment\n") == 2, ended
    assert list((tmp_path / "run").iterdir()) == [tmp_path / "run" / "train.log"]


def test_slurm_starts_one_run(start, jobs, tiny, tmp_path):
    overrides = [*tiny, "trainer=ddp_cpu", BOUNDARIES]
    ranks = ({"SLURM_PROCID": rank, "SLURM_LOCALID": rank} for rank in ("0", "1"))
    tasks = [start(*overrides, environment={**SLURM, **rank}) for rank in ranks]
    ended = [task.wait() for task in tasks]
    assert [task.status for task in ended] == [0, 0], ended
    (run,) = (tmp_path / "outputs").iterdir()
    assert_same_run(run, jobs[0])
    assert ended[1].output == ""


def test_a_process_that_is_killed_ends_its_run_with_an_error_and_the_next_job_runs(start, alone, tiny, tmp_path):
    sweep = [f"hydra.sweep.dir={tmp_path / 'sweep'}", "hydra.sweep.subdir=${hydra.job.num}"]
    running = start("-m", *tiny, "trainer=ddp_cpu,cpu", BOUNDARIES, *sweep)
    first, second = tmp_path / "sweep" / "0", tmp_path / "sweep" / "1"
    running.wait_for_step(first, 30)
    workers = running.workers()
    assert len(workers) == 2
    descendants = running.descendants()
    workers[1].kill()
    assert_gone(descendants)
    assert not (first / "metrics.json").exists()
    ended = running.wait()
    assert (ended.status, ended.errors) == (1, "error: process 1 of the run was ended by SIGKILL\n"), ended
    assert "resume with: python -m src.train resume=sweep/0" in ended.output.splitlines()
    assert_same_run(second, alone("boundaries", "trainer=cpu", BOUNDARIES))


def test_sigterm_to_the_launching_process_saves_and_the_run_goes_on_from_there(start, jobs, tiny, tmp_path):
    run = tmp_path / "run"
    running = start(*tiny, "trainer=ddp_cpu", BOUNDARIES, f"hydra.run.dir={run}")
    running.wait_for_step(run, 5)
    descendants = running.descendants()
    running.ask_to_stop(signal.SIGTERM)
    ended = running.wait()
    assert (ended.status, ended.errors) == (143, "error: stopped by SIGTERM\n")
    assert ended.output.splitlines()[-1] == "resume with: python -m src.train resume=run"
    assert_gone(descendants)
    assert not (run / "metrics.json").exists()
    assert start("resume=run").wait().status == 0
    assert_same_run(run, jobs[0])


def test_no_process_outlives_a_launching_process_that_is_killed(start, tiny, tmp_path):
    """Not even one that has only begun to import libraries; what ends it then ends it later too."""
    running = start(*tiny, "trainer=ddp_cpu", f"hydra.run.dir={tmp_path / 'run'}")
    running.wait_until(lambda: len(running.workers()) == 2)
    descendants = running.descendants()
    running.kill()
    assert_gone(descendants)


def test_a_mistake_that_a_process_finds_is_one_sentence(start, tiny, tmp_path):
    few_tokens = ["dataset.tokenizer=bpe", "dataset.vocab_size=400", "dataset.sequence_length=512"]
    ended = start(*tiny, "trainer=ddp_cpu", *few_tokens).wait()
    assert (ended.status, ended.output) == (2, ""), ended
    assert len(ended.errors.splitlines()) == 1
    assert re.match("error: dataset.sequence_length .* 513", ended.errors)
    assert not list((tmp_path / "outputs").iterdir())


HANG = "error: the processes of the run made no progress for {} seconds (trainer.hang_after): one of them hangs\n"


def test_a_process_that_is_stopped_ends_its_run_after_a_while_and_the_run_can_go_on(start, tiny, tmp_path):
    run = tmp_path / "run"
    running = start(*tiny, "trainer=ddp_cpu", "trainer.hang_after=15", f"hydra.run.dir={run}")
    running.wait_for_step(run, 30, seconds=300)
    descendants, (_, second) = running.descendants(), running.workers()
    second.suspend()
    ended = running.wait()
    assert (ended.status, ended.errors) == (1, HANG.format(15)), ended
    assert ended.output.splitlines()[-1] == "resume with: python -m src.train resume=run"
    assert_gone(descendants)
    assert not RunDirectory(run).is_held
    assert checkpoint(run, "last")["global_step"] >= 20


def test_processes_that_torchrun_started_end_when_one_hangs(start, tiny, tmp_path):
    stuck = at_step(30, "os.environ['RANK'] == '1'").stuck(tmp_path / "stuck")
    overrides = [*tiny, "trainer=ddp_cpu", "trainer.hang_after=15", "hydra.run.dir=run"]
    running = start(*overrides, command=TORCHRUN, environment=stuck)
    ended = running.wait(150)
    assert ended.status == 1
    assert HANG.format(15) in ended.errors, ended


def test_an_address_in_use_is_one_sentence(start, tiny):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        first = {"MASTER_PORT": port, "SLURM_PROCID": "0", "SLURM_LOCALID": "0"}
        ended = start(*tiny, "trainer=ddp_cpu", environment={**SLURM, **first}).wait()
    assert ended.status == 1, ended
    place = f"tcp://127.0.0.1:{port}"
    assert re.match(f"error: .* {place}: ", ended.errors.splitlines()[-1])
    assert "Traceback" not in ended.errors

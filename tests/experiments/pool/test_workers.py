"""Workers on a source of jobs that has nothing to do with Optuna."""

from __future__ import annotations

import pytest

from poslab.experiments.pool.shares import Share
from poslab.experiments.pool.supervise import supervise
from poslab.experiments.pool.workers import Workers
from poslab.runs.errors import ProcessDiedError

from .directory_source import DirectorySource


def workers_of(source: DirectorySource, module: str = "tests.experiments.pool.directory_source") -> Workers[str]:
    order = {"directory": str(source.directory)}
    return Workers(source, module, order, [Share(1, None)] * 2, source.directory / "workers", hang_after=60)


@pytest.mark.slow
def test_every_job_comes_to_its_end_whatever_happens_to_its_worker(tmp_path):
    source = DirectorySource(tmp_path, ["is_killed", "has_a_bug", "is_mistaken", "is_short_of_memory", "is_fine"])

    supervise(source, workers_of(source), patience=10, show=lambda: None)

    with source.changing() as jobs:
        ends = {name: (job["state"], [failure["reason"] for failure in job["failures"]]) for name, job in jobs.items()}
    # Whoever looks first says it: who watches the process, or who finds its lock free.
    state, (reason,) = ends.pop("is_killed")
    assert state == "complete" and reason in ("its worker was ended by SIGKILL", "its worker was killed")
    assert ends == {
        "has_a_bug": ("failed", ["ZeroDivisionError: "]),
        "is_mistaken": ("failed", ["it cannot be"]),
        "is_short_of_memory": ("complete", ["MemoryError: "]),
        "is_fine": ("complete", []),
    }


@pytest.mark.slow
def test_workers_that_cannot_begin_are_not_started_for_ever(tmp_path):
    source = DirectorySource(tmp_path, ["is_fine"])

    with pytest.raises(ProcessDiedError, match=r"no worker gets as far as its first job: .*No module named"):
        supervise(source, workers_of(source, "tests.experiments.pool.nowhere"), patience=10, show=lambda: None)


def test_two_commands_at_once_keep_the_logs_of_their_workers_apart(tmp_path):
    source = DirectorySource(tmp_path, ["is_fine"])
    commands = [workers_of(source, "tests.experiments.pool.nowhere") for _ in range(2)]

    for workers in commands:
        workers.fill_up(most=1)
    started = [worker for workers in commands for worker in workers.alive]

    for worker in started:
        worker.process.wait()
    assert [worker.log.read_text().count("No module named") for worker in started] == [1, 1]

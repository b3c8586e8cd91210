"""Workers of one machine: real processes that train, hang, fail and are killed."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from poslab.experiments.workers import WorkerResources, Workers, supervise, worker_resources
from poslab.runs.errors import ProcessDiedError
from poslab.runs.trainer_settings import TrainerSettings

from .worker_of_names import open_jobs


def workers_of(folder: Path, *names: str, module: str = "tests.experiments.worker_of_names") -> Workers:
    jobs, _ = open_jobs({"folder": str(folder), "names": names})
    order = {"folder": str(folder), "names": names}
    return Workers(jobs, order, [WorkerResources(1, None)] * 2, folder / "workers", module=module)


@pytest.mark.slow
def test_every_job_comes_to_its_end_whatever_happens_to_its_worker(tmp_path):
    workers = workers_of(tmp_path, "is_killed", "has_a_bug", "is_mistaken", "is_short_of_memory", "is_fine")

    supervise(workers.jobs, workers, show=lambda snapshot: None)

    ends = {
        key: (record.outcome is not None, [a.failure.reason for a in record.attempts if a.failure is not None])
        for key, record in workers.jobs.records().items()
    }
    # Whoever looks first says it: who watches the process, or who finds its lock free.
    is_complete, (reason,) = ends.pop("is_killed")
    assert is_complete and reason in ("its worker was ended by SIGKILL", "its worker was killed")
    assert ends == {
        "has_a_bug": (False, ["ZeroDivisionError: "]),
        "is_mistaken": (False, ["it cannot be"]),
        "is_short_of_memory": (True, ["MemoryError: "]),
        "is_fine": (True, []),
    }


@pytest.mark.slow
def test_workers_that_cannot_begin_are_not_started_for_ever(tmp_path):
    workers = workers_of(tmp_path, "is_fine", module="tests.experiments.nowhere")

    with pytest.raises(ProcessDiedError, match="No module named"):
        supervise(workers.jobs, workers, show=lambda snapshot: None)


def test_two_commands_at_once_keep_the_logs_of_their_workers_apart(tmp_path):
    commands = [workers_of(tmp_path, "is_fine", module="tests.experiments.nowhere") for _ in range(2)]

    for workers in commands:
        workers.fill_up(most=1)
    started = [worker for workers in commands for worker in workers.alive.values()]

    for worker in started:
        worker.process.wait()
    assert [worker.log.read_text().count("No module named") for worker in started] == [1, 1]


@pytest.fixture
def four_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)


@pytest.fixture
def four_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


@pytest.mark.parametrize(("workers", "threads"), [(1, 4), (2, 2), (3, 1), (8, 1)])
def test_workers_share_the_cores(workers, threads, four_cores):
    assert worker_resources(workers, TrainerSettings(max_steps=1, accelerator="cpu")) == [(threads, None)] * workers


@pytest.mark.parametrize(
    ("workers", "devices", "seen"),
    [(4, 1, ["0", "1", "2", "3"]), (2, 1, ["0", "1"]), (2, 2, ["0,1", "2,3"]), (2, "auto", ["0,1", "2,3"])],
)
def test_each_worker_has_gpus_of_its_own(workers, devices, seen, four_cores, four_gpus):
    settings = TrainerSettings(max_steps=1, accelerator="gpu", devices=devices)

    assert [gpus for _, gpus in worker_resources(workers, settings)] == seen


def test_gpus_that_the_command_does_not_see_are_not_given_out(four_cores, four_gpus, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,1")

    assert [gpus for _, gpus in worker_resources(2, TrainerSettings(max_steps=1, accelerator="gpu"))] == ["3", "1"]


@pytest.mark.parametrize(("workers", "devices"), [(5, 1), (3, 2), (5, "auto")])
def test_more_workers_than_gpus_are_refused(workers, devices, four_cores, four_gpus):
    with pytest.raises(ValueError, match=f"workers={workers} need .* this machine has 4"):
        worker_resources(workers, TrainerSettings(max_steps=1, accelerator="gpu", devices=devices))

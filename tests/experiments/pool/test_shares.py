from __future__ import annotations

import pytest
import torch

from poslab.experiments.pool.shares import shares
from poslab.runs.trainer_settings import TrainerSettings


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
    assert shares(workers, TrainerSettings(max_steps=1, accelerator="cpu")) == [(threads, None)] * workers


@pytest.mark.parametrize(
    ("workers", "devices", "seen"),
    [(4, 1, ["0", "1", "2", "3"]), (2, 1, ["0", "1"]), (2, 2, ["0,1", "2,3"]), (2, "auto", ["0,1", "2,3"])],
)
def test_each_worker_has_gpus_of_its_own(workers, devices, seen, four_cores, four_gpus):
    settings = TrainerSettings(max_steps=1, accelerator="gpu", devices=devices)

    assert [gpus for _, gpus in shares(workers, settings)] == seen


def test_gpus_that_the_command_does_not_see_are_not_given_out(four_cores, four_gpus, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,1")

    assert [gpus for _, gpus in shares(2, TrainerSettings(max_steps=1, accelerator="gpu"))] == ["3", "1"]


@pytest.mark.parametrize(("workers", "devices"), [(5, 1), (3, 2), (5, "auto")])
def test_more_workers_than_gpus_are_refused(workers, devices, four_cores, four_gpus):
    with pytest.raises(ValueError, match=f"workers={workers} need .* GPUs each, and this machine has 4"):
        shares(workers, TrainerSettings(max_steps=1, accelerator="gpu", devices=devices))

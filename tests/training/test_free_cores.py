"""With `callbacks=free_cores` a run leaves the cores that other programs need, and no other run does."""

import itertools

import psutil
import pytest
import torch

from poslab.runs.errors import NonFiniteLossError
from poslab.training import callbacks
from poslab.training.callbacks import free_threads
from tests.training.runs import run_of, small


@pytest.mark.parametrize(
    ("others", "cores", "most", "threads"),
    [(0.0, 2, 2, 2), (0.4, 2, 2, 2), (1.0, 2, 2, 1), (3.0, 2, 2, 1), (3.0, 16, 16, 13), (3.0, 16, 4, 4)],
)
def test_each_core_that_other_programs_leave_has_a_thread(others, cores, most, threads):
    assert free_threads(others, cores, most) == threads


@pytest.fixture
def readings(monkeypatch):
    """Readings at every step, by turns 2, 1 and 3 threads; this process has 3."""
    numbers = itertools.cycle([2, 1, 3])
    monkeypatch.setattr(callbacks, "INTERVAL_S", 0.0)
    monkeypatch.setattr(callbacks, "free_threads", lambda *_: next(numbers))
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield numbers
    torch.set_num_threads(before)


def test_threads_follow_the_load_in_training_and_are_given_back(tmp_path, readings):
    run_of(small(tmp_path, "callbacks=free_cores"), tmp_path / "run")
    assert torch.get_num_threads() == 3
    assert next(readings) == 1  # four steps have changed the number


def test_the_threads_of_other_runs_do_not_depend_on_the_load(tmp_path, readings):
    """Sums over threads depend on their number: a run and its resumption would not be the same bit for bit."""
    run_of(small(tmp_path), tmp_path / "run")
    assert next(readings) == 2


def test_a_run_that_fails_gives_its_threads_back(tmp_path, readings):
    with pytest.raises(NonFiniteLossError):
        run_of(small(tmp_path, "optimizer.lr=1e30", "callbacks=free_cores"), tmp_path / "run")
    assert torch.get_num_threads() == 3


def test_a_run_keeps_its_threads_where_the_system_does_not_tell_its_load(tmp_path, monkeypatch):
    monkeypatch.setattr(psutil, "PROCFS_PATH", str(tmp_path))
    run_of(small(tmp_path, "callbacks=free_cores"), tmp_path / "run")

"""Jobs: who takes them, what a failure means, and records that survive any kill, in folders and in databases."""

from __future__ import annotations

import json
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from poslab.experiments.jobs import (
    KILLED,
    LOST,
    MAX_KILLS,
    MAX_RETRIES,
    STUDY,
    Attempt,
    DatabaseLedger,
    Failure,
    FolderLedger,
    Jobs,
    Ledger,
    Record,
    failure_of,
    is_dead,
    locked,
    may_retry,
)
from poslab.experiments.storage import open_storage
from poslab.experiments.storage_url import DamagedStorageError
from poslab.experiments.worker import beating
from poslab.runs.errors import NonFiniteLossError, ProcessDiedError
from tests.experiments.comparisons import comparison
from tests.experiments.sweeps import taken
from tests.storages import POSTGRESQL


class Named(Jobs[Mapping[str, Any]]):
    """Jobs with these names."""

    def __init__(self, ledger: Ledger, folder: Path, *names: str, lost_after: float = 60) -> None:
        super().__init__(ledger, lost_after)
        self.folder, self.names = folder, list(names)

    def wanted(self, records):
        return self.names, 0

    def directory_of(self, key):
        return self.folder / "runs" / "case" / "encoding" / key

    def as_plain_data(self, job, result):
        return result


@pytest.fixture(params=["folder", "sqlite", pytest.param("postgresql", marks=pytest.mark.needs(POSTGRESQL))])
def opened(request, tmp_path):
    """A function that opens the jobs of names as another process does, in records of each kind."""

    def open_jobs(*names: str, **given: Any) -> Named:
        if request.param == "folder":
            ledger: Ledger = FolderLedger(tmp_path, lambda key: tmp_path / "runs" / "case" / "encoding" / key)
        else:
            sqlite = f"sqlite:///{tmp_path / 'study.db'}"
            url = sqlite if request.param == "sqlite" else request.getfixturevalue("postgresql")
            ledger = DatabaseLedger(open_storage(comparison(storage=url)).engine, tmp_path.name)
        return Named(ledger, tmp_path, *names, **given)

    return open_jobs


def test_processes_take_different_jobs_and_each_is_taken_once(opened):
    one, other = opened("a", "b", "c"), opened("a", "b", "c")
    assert [taken(jobs).key for jobs in (one, other, one)] == ["a", "b", "c"]
    assert other.take("worker") is None
    assert other.snapshot().running == ["a", "b", "c"] and other.snapshot().unfinished == 3


def test_a_result_is_read_by_others_and_ends_the_job(opened):
    one, other = opened("a"), opened("a")
    one.complete(taken(one), {"loss": float("inf")})
    assert other.snapshot().finished == ["a"] and other.snapshot().unfinished == 0
    assert other.records()["a"].outcome == {"loss": float("inf")}
    assert other.take("worker") is None


def test_a_job_is_retried_until_it_fails_for_good(opened):
    jobs = opened("a", "b")
    for _ in range(1 + MAX_RETRIES):
        jobs.fail(taken(jobs), FAILED)
    assert taken(jobs).key == "b"
    assert jobs.snapshot().failed == ["a"]


def test_a_job_that_was_put_back_waits_and_has_no_failure(opened):
    jobs = opened("a")
    assert jobs.put_back(taken(jobs))
    assert jobs.snapshot().waiting == ["a"]
    assert taken(jobs).key == "a" and not jobs.records()["a"].failure


def test_a_job_that_another_worker_has_is_left_alone(opened):
    jobs = opened("a")
    lost = taken(jobs, "one")
    jobs.fail(lost, KILLED)
    taken(jobs, "other")
    jobs.complete(lost, {})
    jobs.fail(lost, FAILED)
    assert not jobs.put_back(lost)
    jobs.beat(lost)
    assert lost.lost.is_set()
    assert jobs.snapshot().running == ["a"] and [a.worker for a in jobs.records()["a"].attempts] == ["one", "other"]


def test_a_change_that_is_not_finished_leaves_the_records_as_they_were(opened):
    jobs = opened("a")
    with pytest.raises(KeyboardInterrupt), jobs.ledger.changing() as records:
        records["a"] = {"attempts": []}
        raise KeyboardInterrupt
    assert jobs.records() == {}


def test_the_job_of_a_killed_worker_of_this_machine_fails_at_once(opened, tmp_path):
    jobs = opened("a")
    taken(jobs, OURS)
    (tmp_path / f"{OURS}.lock").touch()  # nobody holds it
    jobs.fail_lost(tmp_path)
    assert jobs.records()["a"].failure == KILLED


@pytest.mark.slow
def test_a_silent_job_is_lost_and_one_with_a_heartbeat_is_not(opened, tmp_path):
    jobs, worker = opened("silent", "alive", lost_after=3), opened("silent", "alive", lost_after=3)
    taken(worker, "another-1")
    with beating(worker, taken(worker, "another-2")):
        deadline = time.monotonic() + 8
        while time.monotonic() < deadline:
            jobs.fail_lost(tmp_path)
            time.sleep(0.1)
        assert jobs.records()["silent"].failure == LOST
        assert jobs.snapshot().running == ["alive"]


@pytest.mark.parametrize("node", [[], {"attempts": 3}, {"attempts": [{"worker": []}]}, {"path": "/x"}])
def test_a_record_that_poslab_does_not_write_is_one_sentence(node, opened):
    jobs = opened("a")
    with jobs.ledger.changing() as records:
        records["a"] = node
    with pytest.raises(DamagedStorageError, match="damaged"):
        jobs.records()


def test_a_damaged_file_of_a_record_is_one_sentence(tmp_path):
    ledger = FolderLedger(tmp_path, lambda key: tmp_path / "runs" / "case" / "encoding" / key)
    with ledger.changing() as records:
        records[STUDY] = {"id": "x"}
    assert json.loads((tmp_path / "study.json").read_text()) == {STUDY: {"id": "x"}}
    (tmp_path / "study.json").write_text("{")
    with pytest.raises(DamagedStorageError, match=r"study\.json"):
        ledger.read()


def test_a_record_comes_back_as_it_was():
    record = Record([Attempt("one", 1.5, FAILED), Attempt("two")], 7, None, None)
    assert Record.of(json.loads(json.dumps(record, default=vars))) == record


FAILED = Failure("it crashed", can_pass=True)


def attempts(*failures: Failure) -> list[Attempt]:
    return [Attempt("worker", failure=failure) for failure in failures]


def test_a_failure_that_would_come_again_is_not_retried():
    assert not may_retry(attempts(Failure("the loss is not finite", can_pass=False)))


def test_a_job_that_fails_by_itself_is_retried_twice():
    assert may_retry(attempts(*[FAILED] * MAX_RETRIES))
    assert not may_retry(attempts(*[FAILED] * (MAX_RETRIES + 1)))


def test_kills_from_outside_are_counted_apart():
    assert may_retry(attempts(*[KILLED] * 10, *[FAILED] * MAX_RETRIES))
    assert not may_retry(attempts(*[KILLED] * 10, *[FAILED] * (MAX_RETRIES + 1)))


def test_a_job_that_is_killed_again_and_again_is_given_up():
    assert may_retry(attempts(*[KILLED] * MAX_KILLS))
    assert not may_retry(attempts(*[KILLED] * (MAX_KILLS + 1)))


OUT_OF_MEMORY = RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory")


@pytest.mark.parametrize(
    ("error", "failure"),
    [
        (ValueError("dataset.files must exist"), Failure("dataset.files must exist", can_pass=False)),
        (NonFiniteLossError("the loss at step 3 is nan"), Failure("the loss at step 3 is nan", can_pass=False)),
        (MemoryError("no memory left"), Failure("MemoryError: no memory left", can_pass=True)),
        (torch.OutOfMemoryError("CUDA"), Failure("OutOfMemoryError: CUDA", can_pass=True)),
        (OUT_OF_MEMORY, Failure(f"RuntimeError: {OUT_OF_MEMORY}", can_pass=True)),
        (RuntimeError("shapes differ"), Failure("RuntimeError: shapes differ", can_pass=False)),
        (ConnectionError("gone"), Failure("ConnectionError: gone", can_pass=True)),
        (ProcessDiedError("rank 1 died", signal.SIGKILL), Failure("rank 1 died", True, from_outside=True)),
        (ProcessDiedError("rank 1 died", signal.SIGSEGV), Failure("rank 1 died", True, from_outside=False)),
    ],
    ids=repr,
)
def test_what_can_pass_is_retried(error, failure):
    assert failure_of(error) == failure


def test_an_outage_of_the_source_can_pass():
    assert failure_of(KeyError("x"), outages=(LookupError,)).can_pass
    assert not failure_of(KeyError("x")).can_pass


HOLDS_A_LOCK = """
import sys, time
from pathlib import Path
from poslab.experiments.jobs import locked
with locked(Path(sys.argv[1]), sys.argv[2]):
    print("locked", flush=True)
    time.sleep(60)
"""


OURS = f"{platform.node()}-1"
"""A worker of this machine."""


def test_a_worker_is_dead_as_soon_as_its_process_is_killed(tmp_path):
    command = [sys.executable, "-c", HOLDS_A_LOCK, str(tmp_path), OURS]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "locked\n"
        assert not is_dead(tmp_path, OURS)
        process.kill()
        process.wait()

    assert is_dead(tmp_path, OURS)
    assert not is_dead(tmp_path, f"{platform.node()}-2"), "nobody knows it"


def test_a_free_lock_of_another_machine_proves_nothing(tmp_path):
    (tmp_path / "another-1.lock").touch()

    assert not is_dead(tmp_path, "another-1")


def test_a_worker_that_ends_in_order_leaves_no_lock(tmp_path):
    with locked(tmp_path, "worker"):
        pass

    assert list(tmp_path.iterdir()) == []

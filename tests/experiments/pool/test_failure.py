from __future__ import annotations

import signal

import pytest
import torch

from poslab.experiments.pool.failure import Failure, failure_of, is_a_bug
from poslab.runs.errors import NonFiniteLossError, ProcessDiedError

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


def test_a_worker_goes_on_after_an_error_that_is_not_a_bug():
    assert not is_a_bug(MemoryError())
    assert not is_a_bug(ValueError())
    assert is_a_bug(ZeroDivisionError())

"""The error of a run whose processes failed."""

from __future__ import annotations

import json
import re
import signal
from pathlib import Path

import pytest
from torch.distributed.elastic.multiprocessing.errors import ProcessFailure

from poslab.runs.errors import ProcessDiedError
from poslab.runs.processes import hung
from poslab.training.launch import _explained

HANG = f"ProcessDiedError: {hung(15)}"


def failure(folder: Path, rank: int, exitcode: int, message: str | None = None, at: int = 0) -> ProcessFailure:
    """A process that ended, perhaps with word of an error at some second."""
    file = folder / f"{rank}.json"
    if message is not None:
        file.write_text(json.dumps({"message": {"message": message, "extraInfo": {"timestamp": str(at)}}}))
    return ProcessFailure(local_rank=rank, pid=rank, exitcode=exitcode, error_file=str(file))


def test_a_hang_is_told_although_what_hung_had_to_be_killed_after_it(tmp_path):
    error = _explained({0: failure(tmp_path, 0, 1, HANG, at=100), 1: failure(tmp_path, 1, -signal.SIGKILL)})
    assert isinstance(error, ProcessDiedError) and str(error) == hung(15)


@pytest.mark.parametrize("others", ["RuntimeError: Connection closed by peer", HANG])
def test_a_process_that_was_killed_before_the_others_missed_it_is_named(tmp_path, others):
    killed = failure(tmp_path, 1, -signal.SIGKILL)
    error = _explained({0: failure(tmp_path, 0, 1, others, at=killed.timestamp + 15), 1: killed})
    assert re.fullmatch("process 1 .* SIGKILL", str(error))

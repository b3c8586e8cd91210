from __future__ import annotations

import platform
import subprocess
import sys

from poslab.experiments.pool.locks import is_dead, locked

HOLDS_A_LOCK = """
import sys, time
from pathlib import Path
from poslab.experiments.pool.locks import locked
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

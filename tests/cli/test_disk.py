"""A disk that is full or cannot be written: said before training where it can be, and nothing saved is lost."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from .running import STEPS, VALIDATE_EVERY, Ended, assert_same_run, checkpoint, start_sweep

pytestmark = pytest.mark.slow


@pytest.fixture
def disk(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    """A disk of the test's own, of 16 MB unless it asks for another size."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={getattr(request, 'param', '16m')}", "poslab", folder]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"a disk to fill cannot be mounted here: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def fill(disk: Path, left: int) -> None:
    """Writes a file that leaves so many bytes of a disk."""
    # A run that writes meanwhile may take some of it first: then the disk is full even earlier.
    with contextlib.suppress(OSError), (disk / "filler").open("wb", buffering=0) as file:
        file.write(bytes(shutil.disk_usage(disk).free - left))


def assert_full(ended: Ended) -> None:
    sentence = "error: disk/run: No space left on device; what was saved before is intact\n"
    assert (ended.status, ended.errors) == (1, sentence), ended
    assert ended.output.splitlines()[-1] == "resume with: python -m src.train resume=disk/run"


@pytest.mark.parametrize("left", [0, 100_000], ids=["nothing", "too little for a checkpoint"])
def test_a_disk_that_fills_up_ends_the_run_with_what_was_saved(left, disk, start, undisturbed, dropout):
    run = disk / "run"
    running = start(*dropout, "hydra.run.dir=disk/run")
    running.wait_for_step(run, VALIDATE_EVERY + 5)
    fill(disk, left)
    assert_full(running.wait())
    assert VALIDATE_EVERY <= checkpoint(run, "last")["global_step"] < STEPS
    assert checkpoint(run, "best")["global_step"] >= VALIDATE_EVERY
    if left:
        (disk / "filler").unlink()
        assert start("resume=disk/run").wait().status == 0
        assert_same_run(run, undisturbed)


def test_a_disk_that_fills_up_ends_a_run_of_two_processes_with_the_same_sentence(disk, start, tiny):
    running = start(*tiny, "trainer=ddp_cpu", "hydra.run.dir=disk/run")
    running.wait_for_step(disk / "run", VALIDATE_EVERY + 5)
    fill(disk, 100_000)
    assert_full(running.wait())
    assert VALIDATE_EVERY <= checkpoint(disk / "run", "last")["global_step"] < STEPS


def test_a_disk_that_fills_up_ends_a_sweep_in_a_sentence(disk, tiny, tmp_path):
    arguments = ["trainer=cpu", *tiny, "trainer.max_steps=1000", "n_trials=2", "lost_after=6"]
    running = start_sweep(tmp_path, *arguments, output="disk/out")
    running.wait_for_step(disk / "out" / "trials" / "0000", VALIDATE_EVERY, seconds=120)
    fill(disk, 0)
    ended = running.wait(150)
    assert ended.status == 1, ended
    assert len(ended.errors.splitlines()) == 1, ended
    assert ended.errors.startswith("error: "), ended
    assert "disk" in ended.errors


@pytest.mark.parametrize("disk", ["5m"], indirect=True)
def test_a_disk_too_small_for_the_checkpoints_is_said_before_training(disk, start, dropout, tmp_path):
    ended = start(*dropout, "hydra.run.dir=disk/run").wait()
    assert ended.status == 2
    assert ended.errors == (
        "error: hydra.run.dir=disk/run is on a disk with 5 MB free, and the checkpoints of this run take 11 MB\n"
    )


@pytest.mark.parametrize("existing", [True, False])
def test_a_disk_that_is_read_only_is_said_before_training(existing, disk, start, dropout):
    if existing:
        (disk / "run").mkdir()
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    ended = start(*dropout, "hydra.run.dir=disk/run").wait()
    assert ended.status == 2
    assert len(ended.errors.splitlines()) == 1
    assert ended.errors.startswith("error: hydra.run.dir")
    assert "Read-only file system" in ended.errors


PERMISSIONS = pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="permissions do not bind root")


@pytest.mark.parametrize(
    ("place", "reason"),
    [("file", "Not a directory"), pytest.param("locked", "Permission denied", marks=PERMISSIONS)],
)
def test_a_directory_that_cannot_be_made_is_said_before_training(place, reason, start, dropout, tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "locked").mkdir(mode=0o500)
    ended = start(*dropout, f"hydra.run.dir={place}/run").wait()
    assert ended.status == 2
    assert ended.errors.startswith("error: hydra.run.dir ")
    assert ended.errors.endswith(f"{place}/run: {reason}\n")

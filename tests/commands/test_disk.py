"""A disk that is full or cannot be written: said before training where it can be, and nothing saved is lost."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from .running import STEPS, VALIDATE_EVERY, Ended, Running, assert_same_run, checkpoint, python, recorded
from .test_sweep import QUESTION

pytestmark = pytest.mark.slow

OVERRIDES = ["trainer=cpu", "model.dropout=0.1"]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Mounts a disk of its own for the test, with these options."""
    mounted: list[Path] = []

    def disk(options: str) -> Path:
        folder = tmp_path / "disk"
        folder.mkdir()
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "poslab", folder], capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"a disk to fill cannot be mounted here: {done.stderr.strip()}")
        mounted.append(folder)
        return folder

    yield disk
    for folder in mounted:
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
def test_a_disk_that_fills_up_ends_the_run_with_what_was_saved(left, disk, start, alone, tiny):
    full = disk("size=16m")
    run = full / "run"
    running = start(*tiny, *OVERRIDES, "hydra.run.dir=disk/run")
    running.wait_until(lambda: recorded(run, VALIDATE_EVERY + 5))
    fill(full, left)
    assert_full(running.wait())
    assert VALIDATE_EVERY <= checkpoint(run, "last")["global_step"] < STEPS
    assert checkpoint(run, "best")["global_step"] >= VALIDATE_EVERY
    if left:
        (full / "filler").unlink()
        assert start("resume=disk/run").wait().status == 0
        assert_same_run(run, alone("dropout", *OVERRIDES))


def test_a_disk_that_fills_up_ends_a_run_of_two_processes_with_the_same_sentence(disk, start, tiny):
    full = disk("size=16m")
    running = start(*tiny, "trainer=ddp_cpu", "hydra.run.dir=disk/run")
    running.wait_until(lambda: recorded(full / "run", VALIDATE_EVERY + 5))
    fill(full, 100_000)
    assert_full(running.wait())
    assert VALIDATE_EVERY <= checkpoint(full / "run", "last")["global_step"] < STEPS


def test_a_disk_that_fills_up_ends_a_sweep_in_a_sentence(disk, tiny, tmp_path):
    full = disk("size=16m")
    (tmp_path / "question.yaml").write_text(QUESTION)
    arguments = ["sweep=question.yaml", "output=disk/out", "trainer=cpu", *tiny, "trainer.max_steps=1000"]
    running = Running(python("-m", "src.sweep", *arguments, "n_trials=2", "lost_after=6"), tmp_path)
    running.wait_until(lambda: recorded(full / "out" / "trials" / "0000", VALIDATE_EVERY), seconds=120)
    fill(full, 0)
    ended = running.wait(150)
    assert ended.status == 1, ended
    assert len(ended.errors.splitlines()) == 1, ended
    assert ended.errors.startswith("error: "), ended
    assert "disk" in ended.errors, "it does not say what is full"


def test_a_disk_too_small_for_the_checkpoints_is_said_before_training(disk, start, tiny, tmp_path):
    disk("size=5m")
    ended = start(*tiny, *OVERRIDES, "hydra.run.dir=disk/run").wait()
    assert ended.status == 2
    assert ended.errors == (
        "error: hydra.run.dir=disk/run is on a disk with 5 MB free, and the checkpoints of this run take 11 MB\n"
    )


@pytest.mark.parametrize("existing", [True, False])
def test_a_disk_that_is_read_only_is_said_before_training(existing, disk, start, tiny):
    folder = disk("size=16m")
    run = folder / "run"
    if existing:
        run.mkdir()
    subprocess.run(["mount", "-o", "remount,ro", folder], check=True)
    ended = start(*tiny, *OVERRIDES, "hydra.run.dir=disk/run").wait()
    assert ended.status == 2
    assert len(ended.errors.splitlines()) == 1
    assert ended.errors.startswith("error: hydra.run.dir")
    assert "Read-only file system" in ended.errors


def test_a_directory_below_a_file_is_said_before_training(start, tiny, tmp_path):
    (tmp_path / "file").write_text("")
    ended = start(*tiny, *OVERRIDES, "hydra.run.dir=file/run").wait()
    assert ended.status == 2
    assert ended.errors.startswith("error: hydra.run.dir cannot be made: ")
    assert ended.errors.endswith("file/run: Not a directory\n")


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="permissions do not bind root")
def test_a_directory_without_permission_is_said_before_training(start, tiny, tmp_path):
    (tmp_path / "locked").mkdir(mode=0o500)
    ended = start(*tiny, *OVERRIDES, "hydra.run.dir=locked/run").wait()
    assert ended.status == 2
    assert ended.errors.startswith("error: hydra.run.dir cannot be made: ")
    assert ended.errors.endswith("locked/run: Permission denied\n")

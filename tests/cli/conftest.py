from __future__ import annotations

import runpy
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import psutil
import pytest

from poslab.cli.hydra_command import DISTRIBUTED_ENV
from tests.training.runs import SMALL, composed, run_of, words

from .running import DROPOUT, ROOT, TINY, Ended, Running, last_of_each, python

WORDS = ("time", "sea", "wind", "moved", "ship", "under", "every", "star", "until", "morning", "came", "back", "home")


def write_documents(folder: Path) -> None:
    """Write a small text of 24 documents into a new folder."""
    folder.mkdir()
    for number in range(24):
        generator = np.random.default_rng(number)
        lines = (" ".join(generator.choice(WORDS, size=12)) for _ in range(16))
        (folder / f"{number}.txt").write_text("\n\n".join(f"{number} {i} {x}." for i, x in enumerate(lines)))


@pytest.fixture(scope="session")
def tiny(once: Callable[..., Path]) -> list[str]:
    """The command line of a tiny run on a small text."""
    folder = once("commands", write_documents)
    files = [f"dataset.files={folder}/*.txt", f"dataset.cache_dir={folder}/cache", "dataset.test_fraction=0.2"]
    return [*TINY, "dataset=text", *files]


@pytest.fixture
def small(tmp_path: Path) -> list[str]:
    """The choices of a run of a moment in the directory of the test."""
    (tmp_path / "text.txt").write_text(words(1200))
    return [*SMALL, "dataset.files=text.txt", "dataset.cache_dir=cache"]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Running]]:
    """Starts `python -m src.train` with these arguments in the test's own directory; ends what is left after the test.

    Another command than `python`, and more environment, can be given; `imports` is as for `Running`.
    """
    started: list[Running] = []

    def start(*arguments: str, command: list[str] | None = None, **given: Any) -> Running:
        running = Running([*(command or python()), "-m", "src.train", *arguments], tmp_path, **given)
        started.append(running)
        return running

    yield start
    for running in started:
        if running.process.poll() is None:
            for process in [*running.descendants(), psutil.Process(running.process.pid)]:
                process.kill()
            running.process.wait()


@pytest.fixture
def run_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Iterator[Callable[..., Ended]]:
    """Runs `python -m MODULE` in this very process, which has imported already what takes seconds.

    It runs in the directory of the test, unless another one is given, and prints no traceback unless it is asked for.
    Of several words with the same key it has the last, unless all are asked for.
    """
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    verbosity = optuna.logging.get_verbosity()
    for name in DISTRIBUTED_ENV:  # which a sweep takes out of the environment
        monkeypatch.delenv(name, raising=False)

    def run(
        module: str, *arguments: str, directory: Path = tmp_path, full_error: str = "0", repeated: bool = False
    ) -> Ended:
        monkeypatch.chdir(directory)
        monkeypatch.setattr(sys, "argv", [module, *(arguments if repeated else last_of_each(arguments))])
        monkeypatch.setenv("HYDRA_FULL_ERROR", full_error)
        with pytest.raises(SystemExit) as end:
            runpy.run_path(str(ROOT / f"{module.replace('.', '/')}.py"), run_name="__main__")
        return Ended(int(end.value.code or 0), *capfd.readouterr())

    yield run
    optuna.logging.set_verbosity(verbosity)
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.fixture(scope="session")
def alone(once: Callable[..., Path], tiny: list[str]) -> Callable[..., Path]:
    """The directory of a tiny run with these further overrides that nothing has disturbed."""

    def alone(name: str, *arguments: str) -> Path:
        def train(run: Path) -> None:
            if "trainer=cpu" in arguments and "-m" not in arguments:
                run_of(composed(*last_of_each([*arguments, *tiny])), run)  # the command's own work, without its imports
                return
            command = python("-m", "src.train", *arguments, *tiny, f"hydra.run.dir={run}", f"hydra.sweep.dir={run}")
            ended = Running(command, run.parent).wait()
            assert ended.status == 0, ended

        return once(f"alone-{name}", train)

    return alone


@pytest.fixture(scope="session")
def dropout(tiny: list[str]) -> list[str]:
    """The command line of a tiny run with dropout."""
    return [*tiny, *DROPOUT]


@pytest.fixture(scope="session")
def undisturbed(alone: Callable[..., Path]) -> Path:
    """The directory of a tiny run with dropout that nothing has disturbed."""
    return alone("dropout", *DROPOUT)

"""Real commands in processes of their own, ways to stop them, and comparisons of what they leave."""

from __future__ import annotations

import contextlib
import csv
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import torch

from poslab.runs.checkpoint import load_checkpoint
from poslab.runs.directory import RunDirectory

from .forked import Forked

ROOT = Path(__file__).parents[2]

STEPS, VALIDATE_EVERY, SAVE_EVERY, LOG_EVERY = 80, 20, 10, 5

TINY = [
    *("model.d_model=32", "model.num_layers=2", "model.num_heads=2", "dataset.sequence_length=64"),
    *("dataset.batch_size=4", "dataset.length_multiples=[1,2]", "trainer.precision=32-true"),
    *(f"trainer.max_steps={STEPS}", f"trainer.validations={STEPS // VALIDATE_EVERY}"),
    *(f"trainer.saves={STEPS // SAVE_EVERY}", f"trainer.log_every={LOG_EVERY}"),
]
"""A run that takes a second or two, after some seconds of imports."""

DROPOUT = ["trainer=cpu", "model.dropout=0.1"]
"""Further choices of a run whose every step is random."""

QUESTION = """
question: Does it work?
train:
  encoding: rotary
space:
  encoding.base: {float: [100, 100000], log: true}
  encoding.fraction: {choices: [0.5, 1.0]}
objectives:
  - mean: [validation/bits_per_byte@1x, validation/bits_per_byte@2x]
n_trials: 4
sampler: {_target_: optuna.samplers.TPESampler, n_startup_trials: 2}
pruner: {_target_: optuna.pruners.MedianPruner, n_startup_trials: 1, n_warmup_steps: 1}
presets:
  short:
    train: {trainer.max_steps: 20}
    n_trials: 2
"""

TIMED = {"train/tokens_per_second", "train/mfu", "train/seconds", "memory/peak_mb"}


def last_of_each(words: Sequence[str]) -> list[str]:
    """The words of a command line without those whose key a later one sets again, as fixtures give most of them."""
    last = {word.lstrip("+~").partition("=")[0]: place for place, word in enumerate(words) if not word.startswith("-")}
    return [word for place, word in enumerate(words) if "=" not in word or place in last.values() or word[0] == "-"]


class Ended(NamedTuple):
    """A command that has ended. Its status is as a shell shows it: 137 after a SIGKILL."""

    status: int
    output: str
    errors: str

    @property
    def sentences(self) -> str:
        """The errors, one a line: the lines of a list behind one are indented."""
        return re.sub(r"\n +", " ", self.errors)


class Running:
    """A command that runs, in a session of its own, as an interactive shell starts it.

    Args:
        command: its words. `python -m src.NAME` begins with the libraries imported.
        directory: where it runs.
        environment: in addition to the environment of the tests.
        imports: whether it imports the libraries itself.
    """

    def __init__(
        self, command: list[str], directory: Path, environment: dict[str, str] | None = None, imports: bool = False
    ) -> None:
        self._output, self._errors = (tempfile.NamedTemporaryFile("w+") for _ in range(2))  # noqa: SIM115
        words = last_of_each(command)
        whole = {**os.environ, "PYTHONPATH": str(ROOT), **(environment or {})}
        self.process: Forked | subprocess.Popen[bytes]
        if words[:2] == python("-m") and words[2].startswith("src.") and not imports:
            self.process = Forked(words[2:], str(directory), whole, self._output.name, self._errors.name)
        else:
            self.process = subprocess.Popen(
                words,
                cwd=directory,
                env=whole,
                stdin=subprocess.DEVNULL,
                stdout=self._output,
                stderr=self._errors,
                start_new_session=True,
            )

    def wait_until(self, condition: Callable[[], object], seconds: float = 60) -> None:
        """Waits for something that the command brings about; it must still run then."""
        deadline = time.monotonic() + seconds
        while not condition():
            assert self.process.poll() is None, f"it ended too early: {self.wait()}"
            assert time.monotonic() < deadline, f"{condition} did not come about"
            time.sleep(0.01)

    def wait_for_step(self, run: Path, step: int, seconds: float = 60) -> None:
        """Waits until its run has recorded a step."""
        self.wait_until(lambda: recorded(run, step), seconds)

    def descendants(self) -> list[psutil.Process]:
        """The processes that it has started."""
        return psutil.Process(self.process.pid).children(recursive=True)

    def workers(self) -> list[psutil.Process]:
        """Those of its processes that train, by rank."""
        found = {}
        for process in self.descendants():
            with contextlib.suppress(psutil.Error):  # it has ended in the meantime
                if "poslab.training.worker" in process.cmdline():
                    found[process.environ()["RANK"]] = process
        return [found[rank] for rank in sorted(found)]

    def ask_to_stop(self, number: signal.Signals) -> None:
        """Sends a signal to the command's group, as a terminal does it."""
        os.killpg(self.process.pid, number)

    def kill(self) -> Ended:
        """Ends it with SIGKILL."""
        self.process.kill()
        return self.wait()

    def wait(self, seconds: float = 90) -> Ended:
        """Waits for its end."""
        status = self.process.wait(seconds)
        texts = []
        for file in (self._output, self._errors):
            file.seek(0)
            texts.append(file.read())
        return Ended(status if status >= 0 else 128 - status, *texts)


def start_sweep(
    directory: Path, *arguments: str, output: str = "out", environment: dict[str, str] | None = None
) -> Running:
    """Starts `python -m src.sweep` of the question, in a directory."""
    (directory / "question.yaml").write_text(QUESTION)
    command = python("-m", "src.sweep", "sweep=question.yaml", f"output={output}", *arguments)
    return Running(command, directory, {"COLUMNS": "80", **(environment or {})})


class Moment(NamedTuple):
    """The beginning of a call at which something happens to a command: nothing from outside could be that exact.

    Args:
        module, owner, method: what is called.
        condition: on the tuple `arguments` of the call (`self` left out).
    """

    module: str
    owner: str
    method: str
    condition: str = "True"

    def environment(self, folder: Path, number: signal.Signals) -> dict[str, str]:
        """Return the environment of a command that sends itself a signal then: the command itself is the real one."""
        return self._with(folder, f"os.kill(os.getpid(), {int(number)})")

    def stuck(self, folder: Path) -> dict[str, str]:
        """Return the environment of a command that then begins an operation of C which never returns.

        Python runs no handler of a signal within it. The file `begun` in the folder says that it has begun.
        """
        block = "libc.pthread_mutex_lock(mutex)"
        return self._with(folder, f"open({str(folder / 'begun')!r}, 'w').close(); {block}; {block}")

    def slowed(self, folder: Path, seconds: float) -> dict[str, str]:
        """Return the environment of a command in which the call takes so much longer, and the processor is idle."""
        return self._with(folder, f"time.sleep({seconds})")

    def _with(self, folder: Path, statement: str) -> dict[str, str]:
        folder.mkdir()
        # Python imports a module of this name when it starts.
        (folder / "sitecustomize.py").write_text(f"""
import ctypes, os, sys, time

libc, mutex = ctypes.CDLL(None), ctypes.create_string_buffer(64)

class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == "poslab.training.fit":
            sys.meta_path.remove(self)
            from {self.module} import {self.owner} as owner
            whole = owner.{self.method}
            def {self.method}(self, *arguments, **keywords):
                if {self.condition}:
                    {statement}
                return whole(self, *arguments, **keywords)
            owner.{self.method} = {self.method}

sys.meta_path.insert(0, Finder())
""")
        return {"PYTHONPATH": f"{folder}{os.pathsep}{ROOT}"}


def at_step(step: int, condition: str = "True") -> Moment:
    """Return the beginning of an optimizer step, without micro-batches, under a further condition."""
    method = "on_train_batch_start"
    return Moment("poslab.training.learner", "Learner", method, f"arguments[1] == {step - 1} and {condition}")


IN_THE_TEST = Moment("poslab.training.learner", "Learner", "on_test_epoch_end")


def python(*arguments: str) -> list[str]:
    """The interpreter of the tests."""
    return [sys.executable, *arguments]


def rows(run: Path) -> list[tuple[int, str, str]]:
    """The rows of metrics.csv so far, times left out."""
    file = run / "metrics.csv"
    if not file.exists():
        return []
    with file.open(newline="") as lines:
        complete = [row for row in csv.reader(lines) if len(row) == 3 and row[0].isdigit()]
    return [(int(step), tag, value) for step, tag, value in complete if tag not in TIMED]


def recorded(run: Path, step: int, split: str = "train") -> bool:
    """Return whether metrics of a step, or of one after it, have been recorded."""
    return any(row[0] >= step and row[1].startswith(split) for row in rows(run))


def metrics(run: Path) -> dict[str, float]:
    """The metrics in metrics.json, times and memory left out."""
    return {tag: value for tag, value in RunDirectory(run).metrics().items() if tag not in TIMED}


def checkpoint(run: Path, name: str) -> dict[str, Any]:
    """One of a run's checkpoints."""
    loaded: dict[str, Any] = load_checkpoint(run / "checkpoints" / f"{name}.safetensors")
    return loaded


def assert_same_run(one: Path, other: Path) -> None:
    """The same metrics, and bitwise the same weights and state of the optimizer."""
    assert rows(one) == rows(other)
    assert metrics(one) == metrics(other)
    for name in ("last", "best"):
        a, b = checkpoint(one, name), checkpoint(other, name)
        assert a["global_step"] == b["global_step"]
        assert a["state_dict"].keys() == b["state_dict"].keys()
        for key, weight in a["state_dict"].items():
            assert torch.equal(weight, b["state_dict"][key]), (name, key)
        for moments, others in zip(*(x["optimizer_states"][0]["state"].values() for x in (a, b)), strict=True):
            assert all(torch.equal(moments[key], others[key]) for key in moments), name
    assert not list(one.glob("checkpoints/.*")), "an unfinished file was left behind"

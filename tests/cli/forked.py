"""Commands that begin where the libraries have been imported, as tests/conftest.py says.

All else is as of `python -m MODULE`: a process in a session of its own, which imports Poslab anew.
"""

from __future__ import annotations

import atexit
import contextlib
import importlib
import multiprocessing
import os
import runpy
import subprocess
import sys

FORKS = multiprocessing.get_context("forkserver")


class Forked:
    """A command that runs, with what tests need of `subprocess.Popen`.

    Args:
        words: the module, and its arguments.
        directory: where it runs.
        environment: all of it.
        output, errors: files to which it writes.
    """

    def __init__(self, words: list[str], directory: str, environment: dict[str, str], output: str, errors: str) -> None:
        self._process = FORKS.Process(target=become, args=(words, directory, environment, output, errors))
        self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid
        self.kill = self._process.kill

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, seconds: float | None = None) -> int:
        self._process.join(seconds)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired(str(self._process), seconds or 0)
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)


def become(words: list[str], directory: str, environment: dict[str, str], output: str, errors: str) -> None:
    """Run a command in this process, which ends with its exit status."""
    multiprocessing.set_start_method(None, force=True)  # loaders begin as they would under `python -m`
    os.setsid()
    os.chdir(directory)
    os.environ.clear()
    os.environ.update(environment)
    for number, file in (1, output), (2, errors):
        os.dup2(os.open(file, os.O_WRONLY | os.O_APPEND), number)
    sys.path[:0] = [directory, *environment["PYTHONPATH"].split(os.pathsep)]
    sys.modules.pop("sitecustomize", None)
    with contextlib.suppress(ModuleNotFoundError):
        importlib.import_module("sitecustomize")
    sys.argv = words
    try:
        runpy.run_module(words[0], run_name="__main__", alter_sys=True)
    finally:
        atexit._run_exitfuncs()

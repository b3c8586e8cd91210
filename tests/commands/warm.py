"""Processes that begin with the libraries of others imported, which takes a command most of its first ten seconds.

All else is as of `python -m MODULE`: a process of its own in a session of its own, that imports our code anew.
"""

from __future__ import annotations

import atexit
import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import threading
import traceback
from pathlib import Path
from typing import NoReturn

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["tests.commands.libraries"])


class WarmProcess:
    """A command that runs, with what tests need of `subprocess.Popen`.

    Args:
        module: what `python -m` runs.
        arguments: of its command line.
        directory: where it runs.
        environment: all of it; the folders of `PYTHONPATH` come first, and a `sitecustomize.py` in one is run.
        output, errors: files for what it prints.
    """

    def __init__(
        self, module: str, arguments: list[str], directory: Path, environment: dict[str, str], output: str, errors: str
    ) -> None:
        told = (module, arguments, str(directory), environment, output, errors)
        self._process = CONTEXT.Process(target=_run, args=told)
        self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid

    def poll(self) -> int | None:
        """Return its exit status, negative after a signal; None while it runs."""
        return self._process.exitcode

    def wait(self, seconds: float | None = None) -> int:
        """Wait for its end, and return its exit status."""
        self._process.join(seconds)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired(str(self._process), seconds or 0)
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        """Send it a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """End it with SIGKILL."""
        self.send_signal(signal.SIGKILL)


def _run(
    module: str, arguments: list[str], directory: str, environment: dict[str, str], output: str, errors: str
) -> NoReturn:
    """Become the command."""
    os.setsid()
    os.chdir(directory)
    os.environ.clear()
    os.environ.update(environment)
    for number, file, mode in ((0, os.devnull, os.O_RDONLY), (1, output, os.O_WRONLY), (2, errors, os.O_WRONLY)):
        opened = os.open(file, mode | (0 if mode == os.O_RDONLY else os.O_APPEND))
        os.dup2(opened, number)
        os.close(opened)
    sys.stdin = sys.__stdin__ = open(0, closefd=False)  # noqa: SIM115
    sys.stdout = sys.__stdout__ = open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = sys.__stderr__ = open(2, "w", buffering=1, errors="backslashreplace", closefd=False)  # noqa: SIM115
    sys.argv = ["", *arguments]
    folders = environment["PYTHONPATH"].split(os.pathsep)
    sys.path[:0] = folders
    for folder in folders:
        if (custom := Path(folder) / "sitecustomize.py").exists():
            runpy.run_path(str(custom))
    status = 0
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        status = 1
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)

"""Processes that begin with the libraries of others imported, which takes a command most of its first ten seconds.

All else is as of `python -m MODULE`: a process of its own in a session of its own, that imports our code anew. So are
the processes that such a command starts itself, which are its children.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import json
import multiprocessing
import os
import platform
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import traceback
from pathlib import Path
from typing import Any, NoReturn

import psutil

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["tests.cli.libraries"])


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


def is_ours(module: str) -> bool:
    """Return whether a program is one that needs our libraries."""
    return module.partition(".")[0] in ("poslab", "src") or module == "torch.distributed.run"


def words_and_environment(process: psutil.Process) -> tuple[list[str], dict[str, str]]:
    """Return the command line of a process and its environment, as if it had imported the libraries itself."""
    with contextlib.suppress(FileNotFoundError):
        words, environment, since = json.loads(_note(process.pid).read_text())
        if since == process.create_time():  # else of an earlier process with this number
            return words, environment
    return process.cmdline(), process.environ()


def is_copy(process: psutil.Process) -> bool:
    """Return whether a process is a copy of a command that waits for children to fork, and no part of the command."""
    with contextlib.suppress(psutil.Error):
        return words_and_environment(process)[0] == WAITING
    return False


WAITING = ["waiting"]


def _note(pid: int) -> Path:
    """The file that says what a process is that has not begun as such."""
    return Path(tempfile.gettempdir()) / f"poslab-tests-{os.getuid()}" / str(pid)


def _write_note(words: list[str], environment: dict[str, str]) -> None:
    """Say what this process is, at once: another process may be reading."""
    note = _note(os.getpid())
    note.parent.mkdir(exist_ok=True)
    being_written = note.with_suffix(".new")
    being_written.write_text(json.dumps([words, environment, psutil.Process().create_time()]))
    being_written.replace(note)


def _run(
    module: str, arguments: list[str], directory: str, environment: dict[str, str], output: str, errors: str
) -> NoReturn:
    """Become the command."""
    os.setsid()
    files = [os.open(os.devnull, os.O_RDONLY), *(os.open(file, os.O_WRONLY | os.O_APPEND) for file in (output, errors))]
    _take(files, directory, environment)
    _let_children_begin_warm()
    _become(module, arguments)


def _take(files: list[int], directory: str, environment: dict[str, str]) -> None:
    """Have these as standard files, directory and environment."""
    os.chdir(directory)
    os.environ.clear()
    os.environ.update(environment)
    for number, file in enumerate(files):
        os.dup2(file, number)
    for file in files:
        os.close(file)


def _become(module: str, arguments: list[str]) -> NoReturn:
    """Run a module as the program, and end."""
    sys.stdin = sys.__stdin__ = open(0, closefd=False)  # noqa: SIM115
    sys.stdout = sys.__stdout__ = open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = sys.__stderr__ = open(2, "w", buffering=1, errors="backslashreplace", closefd=False)  # noqa: SIM115
    sys.argv = ["", *arguments]
    folders = os.environ["PYTHONPATH"].split(os.pathsep)
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


CLONE, CLONE_PARENT = 56, 0x8000
"""The system call, on x86_64, and its flag that makes the new process a child of the caller's parent."""


def _let_children_begin_warm() -> None:
    """Let `subprocess.Popen` of this process fork programs of ours from a copy of it as it is now.

    The copy waits beside it, and makes children of this process, not of its own. On other processors than x86_64, whose
    system calls have other numbers, they begin as always.
    """
    if platform.machine() != "x86_64":
        return
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    if os.fork() == 0:
        ours.close()
        _write_note(WAITING, {})
        _fork_on_demand(theirs)
    theirs.close()
    execute_child = subprocess.Popen._execute_child  # type: ignore[attr-defined]

    def fork_child(self: Any, args: Any, *others: Any) -> None:
        words = [args] if isinstance(args, str) else [os.fsdecode(word) for word in args if word != "-u"]
        if words[:2] != [sys.executable, "-m"] or not is_ours(words[2]):
            execute_child(self, args, *others)
            return
        _, _, _, _, cwd, env, _, _, _, *files, _, _, _, _, _, new_session, _ = others
        places = [place if place != -1 else number for number, place in enumerate((files[0], files[3], files[5]))]
        request = [words, str(cwd or os.getcwd()), dict(os.environ if env is None else env), new_session]
        with ours_lock:
            socket.send_fds(ours, [json.dumps(request).encode()], places)
            self.pid = json.loads(ours.recv(100))
        self._child_created = True
        self._close_pipe_fds(*files)

    ours_lock = threading.Lock()
    subprocess.Popen._execute_child = fork_child  # type: ignore[attr-defined]


def _fork_on_demand(requests: socket.socket) -> NoReturn:
    """Fork a process for each request, until there are no more."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):  # which are for the command
        signal.signal(number, signal.SIG_IGN)
    while True:
        message, files, _, _ = socket.recv_fds(requests, 2**20, 3)
        if not message:
            os._exit(0)
        words, directory, environment, new_session = json.loads(message)
        ctypes.pythonapi.PyOS_BeforeFork()
        pid = ctypes.PyDLL(None).syscall(CLONE, CLONE_PARENT | signal.SIGCHLD, 0, 0, 0, 0)
        if pid == 0:
            ctypes.pythonapi.PyOS_AfterFork_Child()
            requests.close()
            for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
                signal.signal(number, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.default_int_handler)
            if new_session:
                os.setsid()
            _write_note(words, environment)
            _take(files, directory, environment)
            _let_children_begin_warm()
            _become(words[2], words[3:])
        ctypes.pythonapi.PyOS_AfterFork_Parent()
        for file in files:
            os.close(file)
        requests.send(json.dumps(pid).encode())

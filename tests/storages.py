"""Storages of studies for tests: real files and a real PostgreSQL server."""

from __future__ import annotations

import glob
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

POSTGRESQL = "/usr/lib/postgresql/*/bin/initdb"
"""The program of Debian's package that makes a database, in each version."""


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.needs(POSTGRESQL))])
def storage_url(tmp_path: Path, request: pytest.FixtureRequest) -> str:
    """The URL of a storage of each kind without a study of the test's name: a real server where there is one to be."""
    return f"sqlite:///{tmp_path / 'study.db'}" if request.param == "sqlite" else request.getfixturevalue("postgresql")


@pytest.fixture(scope="session")
def postgresql() -> Iterator[str]:
    """The URL of a database on a PostgreSQL server of its own, on loopback."""
    binaries = sorted(Path(path).parent for path in glob.glob(POSTGRESQL))
    # Not among the folders of the tests: another session of pytest would close those to the server's user.
    folder = Path(tempfile.mkdtemp(prefix="postgresql"))
    user = _not_root(folder)
    data, port = folder / "data", free_port()
    command = [binaries[-1] / "initdb", "-D", data, "-A", "trust", "-U", "tester", "--no-sync"]
    subprocess.run(command, check=True, capture_output=True, **user)
    options = ["-h", "127.0.0.1", "-p", str(port), "-c", "fsync=off", "-c", f"unix_socket_directories={folder}"]
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen([binaries[-1] / "postgres", "-D", data, *options], stdout=log, stderr=log, **user)
        try:
            _wait_for(port)
            yield f"postgresql+psycopg://tester@127.0.0.1:{port}/postgres"
        finally:
            server.send_signal(signal.SIGINT)  # it does not wait for its clients
            server.wait()
            shutil.rmtree(folder)


def _not_root(folder: Path) -> dict[str, Any]:
    """Who a server is to be, which refuses to be root; the folder becomes his."""
    if os.geteuid() != 0:
        return {}
    try:
        postgres = pwd.getpwnam("postgres")
    except KeyError:
        pytest.skip("a PostgreSQL server does not run as root, and there is no user postgres")
    os.chown(folder, postgres.pw_uid, postgres.pw_gid)
    return {"user": postgres.pw_uid, "group": postgres.pw_gid, "extra_groups": []}


def free_port() -> int:
    """A port of loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _wait_for(port: int, seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            assert time.monotonic() < deadline, "the PostgreSQL server does not answer"
            time.sleep(0.05)

"""Nothing of a run on one machine can be reached from another machine, nor does it read objects that somebody sends."""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import time
from collections.abc import Callable

import psutil
import pytest

from .running import Running, recorded, start_sweep

pytestmark = pytest.mark.slow


def listening(running: Running) -> set[tuple[str, str]]:
    """Return the command line of each process of a command that listens, and the address."""
    found = set()
    for process in [psutil.Process(running.process.pid), *running.descendants()]:
        with contextlib.suppress(psutil.Error):  # it has ended in the meantime
            command = " ".join(process.cmdline())
            for connection in process.net_connections("inet"):
                if connection.status == psutil.CONN_LISTEN:
                    found.add((command, connection.laddr.ip))
    return found


def all_listening(running: Running, until: Callable[[], bool]) -> set[tuple[str, str]]:
    """Return what listens at any moment until then."""
    found: set[tuple[str, str]] = set()

    def seen() -> bool:
        time.sleep(0.05)  # a look at every connection takes the processors that the command needs
        found.update(listening(running))
        return until()

    running.wait_until(seen, seconds=120)
    return found


def assert_only_loopback(found: set[tuple[str, str]]) -> None:
    assert found, "the processes of a run did not meet"
    assert all(ipaddress.ip_address(address).is_loopback for _, address in found), found
    assert all("poslab.training.worker" in command for command, _ in found), "the launching process listens too"


def test_a_run_of_two_processes_listens_on_loopback_alone(start, tiny, tmp_path):
    # What a user has set for runs on several machines, or else what the name of the machine stands for, does not count.
    outward = [name for _, name in socket.if_nameindex() if name not in ("lo", "lo0")]
    environment = {"GLOO_SOCKET_IFNAME": outward[-1]} if outward else None
    running = start(*tiny, "trainer=ddp_cpu", f"hydra.run.dir={tmp_path / 'run'}", environment=environment)
    assert_only_loopback(all_listening(running, lambda: recorded(tmp_path / "run", 30)))
    assert running.wait().status == 0


def test_a_trial_of_two_processes_listens_on_loopback_alone(tiny, tmp_path):
    running = start_sweep(tmp_path, *tiny, "trainer=ddp_cpu", "n_trials=1")
    trial = tmp_path / "out" / "trials" / "0000"
    assert_only_loopback(all_listening(running, lambda: recorded(trial, 20, "validation")))
    running.kill()

"""Launch of several processes for one run on this machine, and their observer, which may end the run."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import lightning as L
from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, PContext, start_processes
from torch.distributed.elastic.multiprocessing.errors import ProcessFailure

from poslab.configuration.build import DATA
from poslab.io.files import read_json, write_atomically
from poslab.runs.directory import RunDirectory
from poslab.runs.errors import DiskError, NonFiniteLossError, ProcessDiedError, RunEndedEarlyError, RunInterruptedError
from poslab.runs.processes import hung
from poslab.training.checkpoints import StopOnSignals
from poslab.training.learner import Learner

Observer = Callable[[int, Mapping[str, float]], str | None]
"""A function of the step and the metrics by tag, such as `validation/loss@512`, called after each validation.

It returns a reason to end the run at once, in a few words; None continues it.
"""

HEARTBEATS = "heartbeat_*"
OBSERVED, VALIDATION, ANSWER = "observed", "validation.json", "answer.json"
"""Files by which the first process of a run asks the observer of the launcher, and gets its answer."""

SECONDS_BETWEEN_LOOKS = 0.1

SAVE_TIMEOUT_S = 600
"""Longest time for processes to stop after a signal; they may have a validation to finish before they save.

If one has died, the others get torch's own 30 seconds.
"""


def launch(
    run: RunDirectory,
    checkpoint: Path | None,
    processes: int,
    hang_after: int,
    signals: StopOnSignals,
    observer: Observer | None = None,
) -> None:
    """Train the run of a directory in several processes on this machine, each in its own session.

    They read only the run's resolved configuration, not this process's command line. They meet in a private directory:
    this process listens on no port. After `hang_after` seconds without a finished batch they are ended, once they have
    begun to train. The observer is called in this process.

    Raises:
        ValueError, NonFiniteLossError, RunEndedEarlyError, DiskError: from a process.
        ProcessDiedError: if one died otherwise, or all hang.
        RunInterruptedError: after a signal; a second one ends the processes.
    """
    for name in list(logging.root.manager.loggerDict):
        if name.startswith("torch.distributed.elastic"):  # each has its own level
            logging.getLogger(name).setLevel(logging.CRITICAL)
    with tempfile.TemporaryDirectory(prefix="poslab_") as messages, signals.noted():
        if observer is not None:
            Path(messages, OBSERVED).touch()
        group = _started(run, checkpoint, processes, messages)
        try:
            failures = _watched(group, Path(messages), hang_after, signals, observer)
        finally:
            group.close(signal.SIGKILL)
    error = _explained(failures) if failures else None
    if signals.received is not None and (error is None or isinstance(error, ProcessDiedError)):
        raise RunInterruptedError(signals.received)  # the signal may have killed a process that had just begun
    if error is not None:
        raise error


def _started(run: RunDirectory, checkpoint: Path | None, processes: int, messages: str) -> PContext:
    """Start the processes, which write their errors into the directory `messages`."""
    trust = ",".join([*run.trust, DATA])  # checked in this process
    arguments = ["-m", "poslab.training.worker", str(os.getpid()), messages, trust, str(run.path)]
    if checkpoint is not None:
        arguments.append(str(checkpoint))
    handlers = {
        number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)
    }
    try:
        return start_processes(
            "run",
            sys.executable,
            args={rank: tuple(arguments) for rank in range(processes)},
            # As torchrun sets it, without an address: they meet in a file.
            envs={
                rank: {
                    **dict.fromkeys(("RANK", "LOCAL_RANK"), str(rank)),
                    **dict.fromkeys(("WORLD_SIZE", "LOCAL_WORLD_SIZE"), str(processes)),
                    **{"GROUP_RANK": "0", "TORCHELASTIC_RUN_ID": "poslab", "TORCHELASTIC_RESTART_COUNT": "0"},
                }
                for rank in range(processes)
            },
            logs_specs=DefaultLogsSpecs(log_dir=messages),
        )
    finally:
        for number, handler in handlers.items():  # torch replaces them
            signal.signal(number, handler)


def _watched(
    group: PContext, messages: Path, hang_after: int, signals: StopOnSignals, observer: Observer | None
) -> dict[int, ProcessFailure]:
    """Wait for the end of the processes, answer their observations, and return the failures by rank."""
    newest, silent, asked_at = 0.0, 0.0, None
    while (result := group.wait(timeout=0)) is None:
        if signals.repeated or (asked_at is not None and time.monotonic() - asked_at > SAVE_TIMEOUT_S):
            assert signals.received is not None
            raise RunInterruptedError(signals.received)
        if signals.received is not None and asked_at is None:
            asked_at = time.monotonic()
            for pid in group.pids().values():
                with contextlib.suppress(ProcessLookupError):  # it has ended in the meantime
                    os.kill(pid, signals.received)
        if observer is not None and (messages / VALIDATION).exists():
            _answer(observer, messages)
        time.sleep(SECONDS_BETWEEN_LOOKS)
        silent += SECONDS_BETWEEN_LOOKS  # counts looks, not seconds: this process may have been suspended as well
        beat = max((file.stat().st_mtime for file in messages.glob(HEARTBEATS)), default=0.0)
        if beat != newest:
            newest, silent = beat, 0.0
        if newest and silent > hang_after:
            raise ProcessDiedError(hung(hang_after))
    return result.failures


def _answer(observer: Observer, messages: Path) -> None:
    """Call the observer with the validation of the first process; an error that it raises ends the run."""
    validation = read_json(messages / VALIDATION)
    (messages / VALIDATION).unlink()
    try:
        reason = observer(validation["step"], validation["metrics"])
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
    write_atomically(messages / ANSWER, json.dumps({"reason": reason}))


def distant_observer(messages: Path) -> Observer | None:
    """Return a function that asks the observer of the launcher; None if it has none."""
    if not (messages / OBSERVED).exists():
        return None

    def ask(step: int, metrics: Mapping[str, float]) -> str | None:
        write_atomically(messages / VALIDATION, json.dumps({"step": step, "metrics": dict(metrics)}))
        while not (messages / ANSWER).exists():
            time.sleep(SECONDS_BETWEEN_LOOKS)
        reason: str | None = read_json(messages / ANSWER)["reason"]
        (messages / ANSWER).unlink()
        return reason

    return ask


class Heartbeats(L.Callback):
    """A callback that touches a file in a directory after each batch; `rank` is the process's."""

    def __init__(self, directory: Path, rank: int) -> None:
        self._file = directory / HEARTBEATS.replace("*", str(rank))

    def on_train_batch_end(self, *_: Any, **__: Any) -> None:
        self._file.touch()

    on_validation_batch_end = on_test_batch_end = on_train_batch_end


class ObserveValidations(L.Callback):
    """A callback that calls an observer after each validation, in process 0; all processes of the run end together."""

    def __init__(self, observer: Observer) -> None:
        self.observer = observer

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        assert isinstance(pl_module, Learner)
        if trainer.state.fn != "fit":
            return
        reason = self.observer(trainer.global_step, pl_module.metrics) if trainer.is_global_zero else None
        reason = trainer.strategy.broadcast(reason)
        if reason is not None:
            raise RunEndedEarlyError(reason)


def _explained(failures: dict[int, ProcessFailure]) -> BaseException:
    """Return the error that a process raised, or an error for the end of the first one."""
    for failure in failures.values():
        kind, _, text = _message(failure).partition(": ")
        for known in (ValueError, NonFiniteLossError, RunEndedEarlyError, DiskError):
            if kind == known.__name__:
                return known(text)
    # After one has died the others fail too: they miss it, and get a SIGTERM, or a SIGKILL if they ignore that.
    killed = [(rank, f) for rank, f in failures.items() if f.exitcode < 0 and f.exitcode != -signal.SIGTERM]
    hangs = [f for f in failures.values() if _message(f).startswith(f"{ProcessDiedError.__name__}: ")]
    if hangs and all(hangs[0].timestamp <= f.timestamp for _, f in killed):
        return ProcessDiedError(_message(hangs[0]).partition(": ")[2])
    rank, failure = killed[0] if killed else min(failures.items(), key=lambda item: item[1].timestamp)
    if failure.exitcode < 0:
        number = signal.Signals(-failure.exitcode)
        return ProcessDiedError(f"process {rank} of the run was ended by {number.name}", ended_by=number)
    if failure.exitcode > 128:
        return RunInterruptedError(failure.exitcode - 128)
    return ProcessDiedError(f"process {rank} of the run failed: {_message(failure)}")


def _message(failure: ProcessFailure) -> str:
    message = failure.error_file_data.get("message", "") if failure.error_file_data else failure.message
    return str(message["message"] if isinstance(message, dict) else message)

"""Several processes for one run on this machine, started by torchrun's launcher."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import tempfile
from pathlib import Path

from torch.distributed.elastic.multiprocessing.api import DefaultLogsSpecs, SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from poslab.errors import (
    DiskError,
    NonFiniteLossError,
    ProcessDiedError,
    RunEndedEarlyError,
    RunInterruptedError,
)
from poslab.run_directory import RunDirectory
from poslab.training.observation import Observer, answering

SECONDS_TO_SAVE = 600
"""How long processes that a signal asked to stop may take, which may have a validation to finish before they save.

Where one has died the others get torch's own 30 seconds.
"""


def launch(run: RunDirectory, checkpoint: Path | None, processes: int, observer: Observer | None = None) -> None:
    """Trains the run of a directory in several processes on this machine, each in a session of its own.

    They take everything from the run's resolved configuration, never from this process's command line.

    Args:
        run: where config.yaml is.
        checkpoint: what they resume from; None starts anew.
        processes: how many.
        observer: is told of every validation, in this process, and may end the run.

    Raises:
        ValueError, NonFiniteLossError, RunEndedEarlyError, DiskError: what a process said.
        ProcessDiedError: if one died otherwise.
        RunInterruptedError: if a signal asked all of them to stop.
    """
    for name in list(logging.root.manager.loggerDict):
        if name.startswith("torch.distributed.elastic"):  # each has a level of its own
            logging.getLogger(name).setLevel(logging.CRITICAL)
    handlers = {
        number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)
    }
    try:
        with tempfile.TemporaryDirectory(prefix="poslab_") as messages, contextlib.ExitStack() as answers:
            trust = ",".join(run.trust)
            arguments = ["-m", "poslab.training.worker", str(os.getpid()), messages, trust, str(run.path)]
            if checkpoint is not None:
                arguments.append(str(checkpoint))
            if observer is not None:
                answers.enter_context(answering(observer, Path(messages)))
            elastic_launch(_launch_config(run.path.name, processes, messages), sys.executable)(*arguments)
    except SignalException as error:
        raise RunInterruptedError(int(error.sigval)) from None
    except ChildFailedError as error:
        raise _explained(error) from None
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _launch_config(name: str, processes: int, messages: str) -> LaunchConfig:
    """Processes on this machine alone, which leave word of their errors in the directory `messages`."""
    return LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=processes,
        run_id=name,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        local_addr="localhost",
        max_restarts=0,
        shutdown_timeout=SECONDS_TO_SAVE,
        logs_specs=DefaultLogsSpecs(log_dir=messages),
    )


def _explained(error: ChildFailedError) -> BaseException:
    """What a process had to say, or else how the first one ended."""
    for failure in error.failures.values():
        kind, _, text = _message(failure).partition(": ")
        for known in (ValueError, NonFiniteLossError, RunEndedEarlyError, DiskError):
            if kind == known.__name__:
                return known(text)
    # The others then fail too: they miss the one that died, and are sent a SIGTERM.
    killed = [(rank, f) for rank, f in error.failures.items() if f.exitcode < 0 and f.exitcode != -signal.SIGTERM]
    rank, failure = killed[0] if killed else error.get_first_failure()
    if failure.exitcode < 0:
        return ProcessDiedError(f"process {rank} of the run was ended by {signal.Signals(-failure.exitcode).name}")
    if failure.exitcode > 128:
        return RunInterruptedError(failure.exitcode - 128)
    return ProcessDiedError(f"process {rank} of the run failed: {_message(failure)}")


def _message(failure: ProcessFailure) -> str:
    message = failure.error_file_data.get("message", "") if failure.error_file_data else failure.message
    return str(message["message"] if isinstance(message, dict) else message)

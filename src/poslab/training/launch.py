"""Several processes for one run: started here by torchrun's launcher, or joined where torchrun or SLURM has."""

from __future__ import annotations

import atexit
import logging
import os
import signal
import sys
import tempfile
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import NoReturn, TypeVar

import torch
from lightning.fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from torch import distributed
from torch.distributed.elastic.multiprocessing.api import DefaultLogsSpecs, SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from poslab.errors import DiskError, NonFiniteLossError, ProcessDiedError, RunInterruptedError

SECONDS_TO_SAVE = 600
"""How long processes that a signal asked to stop may take, which may have a validation to finish before they save.

Where one has died the others get torch's own 30 seconds.
"""

T = TypeVar("T")


def external_environment() -> ClusterEnvironment | None:
    """Where torchrun or SLURM has started this process, as one of several; else None.

    Raises:
        ValueError: if SLURM started it with options that leave its place unclear.
    """
    environment: ClusterEnvironment
    if TorchElasticEnvironment.detect():
        environment = TorchElasticEnvironment()
    elif SLURMEnvironment.detect():
        try:
            environment = SLURMEnvironment(auto_requeue=False)  # what is queued again resumes with `resume=auto`
        except RuntimeError as error:
            raise ValueError(str(error)) from error
    else:
        return None
    return environment if environment.world_size() > 1 else None


def join(environment: ClusterEnvironment, on_gpu: bool) -> None:
    """Joins the other processes of the run, for all runs of a multirun; Lightning then finds them joined."""
    if distributed.is_initialized():
        return
    if on_gpu:
        torch.cuda.set_device(environment.local_rank())
    address = f"tcp://{environment.main_address}:{environment.main_port}"
    distributed.init_process_group(
        "cpu:gloo,cuda:nccl" if on_gpu else "gloo",
        init_method="env://" if isinstance(environment, TorchElasticEnvironment) else address,
        rank=environment.global_rank(),
        world_size=environment.world_size(),
    )
    atexit.register(distributed.destroy_process_group)


def leave(status: int) -> NoReturn:
    """Ends this process; where it has joined others, without taking the interpreter apart.

    Gloo's threads let go of the last tensors whenever they get to it, and a thread that needs an interpreter which is
    being taken apart aborts the process. Under FSDP the caches of DTensor hold groups, so these threads outlive them.
    """
    if distributed.is_initialized():
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    sys.exit(status)


def agreed(value: T) -> T:
    """Process 0's value, in every process of the run, once all of them have one."""
    if not distributed.is_initialized():
        return value
    values = [value] * distributed.get_world_size()
    distributed.all_gather_object(values, value)
    return values[0]


def first_alone(action: Callable[[], None]) -> None:
    """Process 0 does something while the others wait, for days if it must; what goes wrong there ends all of them.

    Raises:
        ValueError: as the action does.
        ProcessDiedError: in the other processes, if the action fails otherwise.
    """
    if not distributed.is_initialized():
        return action()
    patient = distributed.new_group(backend="gloo", timeout=timedelta(days=30))
    failure: Exception | None = None
    if distributed.get_rank() == 0:
        try:
            action()
        except Exception as error:
            failure = error
    told = [None if failure is None else (isinstance(failure, ValueError), str(failure))]
    distributed.broadcast_object_list(told, group=patient)
    distributed.destroy_process_group(patient)
    if failure is not None:
        raise failure
    if told[0] is not None:
        is_mistake, sentence = told[0]
        raise ValueError(sentence) if is_mistake else ProcessDiedError(f"process 0 of the run failed: {sentence}")


def launch(run_directory: Path, checkpoint: Path | None, processes: int) -> None:
    """Trains the run of a directory in several processes on this machine, each in a session of its own.

    They take everything from the run's resolved configuration, never from this process's command line.

    Args:
        run_directory: where config.yaml is.
        checkpoint: what they resume from; None starts anew.
        processes: how many.

    Raises:
        ValueError, NonFiniteLossError, DiskError: what a process said.
        ProcessDiedError: if one died otherwise.
        RunInterruptedError: if a signal asked all of them to stop.
    """
    for name in list(logging.root.manager.loggerDict):
        if name.startswith("torch.distributed.elastic"):  # each has a level of its own
            logging.getLogger(name).setLevel(logging.CRITICAL)
    handlers = {
        number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)
    }
    arguments = ["-m", "poslab.training.worker", str(os.getpid()), str(run_directory)]
    if checkpoint is not None:
        arguments.append(str(checkpoint))
    try:
        with tempfile.TemporaryDirectory(prefix="poslab_") as messages:
            elastic_launch(_launch_config(run_directory.name, processes, messages), sys.executable)(*arguments)
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
        for known in (ValueError, NonFiniteLossError, DiskError):
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

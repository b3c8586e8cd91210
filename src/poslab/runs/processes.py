"""Processes of one run, of which torchrun, SLURM or `poslab.training.launch` may start several, and their CPU."""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import errno
import functools
import os
import socket
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import torch
from lightning.fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from torch import distributed

from poslab.runs.errors import DiskError, ProcessDiedError, RunStoppedError

RAN_OUT_OF_TIME = ("timed out", "timeout")
"""Words in errors of gloo and NCCL if another process did not answer in time."""

T = TypeVar("T")


def external_environment() -> ClusterEnvironment | None:
    """Return the environment of torchrun or SLURM, else None; ValueError if SLURM leaves its rank unclear."""
    environment: ClusterEnvironment
    if TorchElasticEnvironment.detect():
        environment = TorchElasticEnvironment()
    elif SLURMEnvironment.detect():
        try:
            environment = SLURMEnvironment(auto_requeue=False)  # a requeued job resumes with `resume=auto`
        except RuntimeError as error:
            raise ValueError(str(error)) from error
    else:
        return None
    return environment if environment.world_size() > 1 else None


def join(
    environment: ClusterEnvironment,
    on_gpu: bool,
    hang_after: int = 1800,
    on_one_machine: bool = False,
    directory: Path | None = None,
) -> None:
    """Join the other processes of the run, for all runs of a multirun; Lightning then finds them joined.

    ProcessDiedError if they cannot meet.

    Args:
        hang_after: timeout in seconds of waiting for one another.
        on_one_machine: True if they use only the loopback interface, which other machines cannot reach.
        directory: of the file through which they meet; None meets at the address of the environment.
    """
    if distributed.is_initialized():
        return
    if on_gpu:
        torch.cuda.set_device(environment.local_rank())
    if on_one_machine:
        loopback = next(name for _, name in socket.if_nameindex() if name in ("lo", "lo0"))
        os.environ["GLOO_SOCKET_IFNAME"] = os.environ["NCCL_SOCKET_IFNAME"] = loopback
    rank, size = environment.global_rank(), environment.world_size()
    patience = timedelta(seconds=hang_after)
    meeting: dict[str, Any]
    if directory is not None:
        store = distributed.FileStore(str(directory / "store"), size)  # type: ignore[attr-defined]
        store.set_timeout(patience)
        address, meeting = str(directory), {"store": store}
    else:
        address = f"tcp://{environment.main_address}:{environment.main_port}"
        meeting = {"init_method": "env://" if isinstance(environment, TorchElasticEnvironment) else address}
    backend = "cpu:gloo,cuda:nccl" if on_gpu else "gloo"
    try:
        distributed.init_process_group(backend, rank=rank, world_size=size, timeout=patience, **meeting)
    except distributed.DistError as error:
        reason = str(error).strip().splitlines()[0]
        raise ProcessDiedError(f"the processes of the run cannot meet at {address}: {reason}") from error
    atexit.register(distributed.destroy_process_group)


@contextlib.contextmanager
def disk_errors(directory: Path) -> Iterator[None]:
    """Turn errors of a full disk into a DiskError that names this directory."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskError(f"{directory}: {error.strerror}; what was saved before is intact") from error
        raise


@contextlib.contextmanager
def hang_errors(seconds: int) -> Iterator[None]:
    """Turn the timeout of a collective into a ProcessDiedError; `seconds` is `trainer.hang_after`."""
    try:
        yield
    except RuntimeError as error:
        is_late = distributed.is_initialized() and any(words in str(error).lower() for words in RAN_OUT_OF_TIME)
        if isinstance(error, RunStoppedError) or not is_late:
            raise
        raise ProcessDiedError(hung(seconds)) from error


def hung(seconds: int) -> str:
    """Return the sentence for a run in which no process has progressed for so long."""
    return f"the processes of the run made no progress for {seconds:,} seconds (trainer.hang_after): one of them hangs"


def leave(status: int) -> NoReturn:
    """End this process; where it has joined others, without shutting down the interpreter.

    Gloo's threads release the last tensors at any time, and a thread that needs an interpreter during its shutdown
    aborts the process. Under FSDP the caches of DTensor keep groups, so these threads outlive them. Files other than
    the standard streams must be closed before.
    """
    if distributed.is_initialized():
        atexit._run_exitfuncs()
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError):  # its reader has gone
                stream.flush()
        os._exit(status)
    sys.exit(status)


def broadcast_from_rank0(value: T) -> T:
    """Return the value of process 0 in every process of the run, once all of them have one."""
    if not distributed.is_initialized():
        return value
    values = [value] * distributed.get_world_size()
    distributed.all_gather_object(values, value)
    return values[0]


def rank_zero_first(action: Callable[[], None]) -> None:
    """Run an action in process 0 while the others wait, for days if they must; an error there ends all of them.

    The others raise a ValueError as the action does, and ProcessDiedError for any other error.
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
    outcome = [None if failure is None else (isinstance(failure, ValueError), str(failure))]
    distributed.broadcast_object_list(outcome, group=patient)
    distributed.destroy_process_group(patient)
    if failure is not None:
        raise failure
    if outcome[0] is not None:
        is_mistake, sentence = outcome[0]
        raise ValueError(sentence) if is_mistake else ProcessDiedError(f"process 0 of the run failed: {sentence}")


MAX_ERROR = 1e-6  # largest relative error of a float32 product: one of bfloat16 factors has 3e-3

MALLOC_SETTINGS = {-3: 2**25, -1: 2**30}
"""Numbers of `mallopt`: blocks of up to 32 MB, the most that older glibc allows, come from the heap, which stays."""


def set_up_cpu() -> None:
    """Let this process compute faster from now on, as every run on a CPU does.

    - Numbers below 1e-38 become zero: an Intel processor is many times slower on them.
    - Freed memory stays: the system clears each page that a process takes again, which in small models takes a quarter
      of a step.
    - Float32 products are oneDNN's where they are exact: on an AMD processor it is twice as fast as MKL.
    """
    torch.set_flush_denormal(True)
    with contextlib.suppress(AttributeError, OSError, TypeError):  # only glibc has it
        for number, value in MALLOC_SETTINGS.items():
            ctypes.CDLL(None).mallopt(number, value)
    if not torch.cuda.is_available() and onednn_is_exact():
        torch.set_float32_matmul_precision("medium")


@functools.cache
def onednn_is_exact() -> bool:
    """Return True if products of float32 stay so when PyTorch lets oneDNN round their factors to bfloat16.

    Without leave, PyTorch does not ask oneDNN. It rounds only where the processor has tiles (AMX), or on ARM.
    """
    try:
        before = torch.get_float32_matmul_precision()
    except RuntimeError:  # it was chosen for only one backend, and stays so
        return False
    generator = torch.Generator().manual_seed(0)
    try:
        torch.set_float32_matmul_precision("medium")
        for shape in ((64, 64), (256, 384), (4, 64, 64)):
            x, y = (torch.randn(shape, generator=generator) for _ in range(2))
            exact = x.double() @ y.double().mT
            if (x @ y.mT - exact).norm() > MAX_ERROR * exact.norm():
                return False
    finally:
        torch.set_float32_matmul_precision(before)
    return True

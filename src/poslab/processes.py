"""The processes of one run, where torchrun, SLURM or `poslab.training.launch` has started several."""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
from collections.abc import Callable
from datetime import timedelta
from typing import NoReturn, TypeVar

import torch
from lightning.fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from torch import distributed

from poslab.errors import ProcessDiedError

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
    Other files than the standard streams have to be closed before.
    """
    if distributed.is_initialized():
        atexit._run_exitfuncs()
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError):  # nobody reads it any more
                stream.flush()
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

"""Shares of a machine: the threads and GPUs of each worker."""

from __future__ import annotations

import os
from typing import NamedTuple

import torch

from poslab.runs.trainer_settings import TrainerSettings


class Share(NamedTuple):
    """The share of one worker: threads of PyTorch, and CUDA_VISIBLE_DEVICES, which None does not change."""

    threads: int
    gpus: str | None


def shares(workers: int, settings: TrainerSettings) -> list[Share]:
    """Return the share of each of at least 1 worker.

    They share the threads that PyTorch uses in this process: as many as cores, or fewer by `OMP_NUM_THREADS`.

    Raises:
        ValueError: if there are not enough GPUs.
    """
    threads = max(1, torch.get_num_threads() // workers)
    if not settings.on_gpu:
        return [Share(threads, None)] * workers
    visible = os.environ.get("CUDA_VISIBLE_DEVICES") or ",".join(map(str, range(torch.cuda.device_count())))
    gpus = visible.split(",")
    needed = len(gpus) // workers if settings.devices == "auto" else settings.devices
    if needed == 0 or needed * workers > len(gpus):
        raise ValueError(f"workers={workers} need {max(1, needed)} GPUs each, and this machine has {len(gpus)}")
    return [Share(threads, ",".join(gpus[i * needed : (i + 1) * needed])) for i in range(workers)]

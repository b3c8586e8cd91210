"""Settings of PyTorch on the processor in training and evaluation: as exact as its defaults, in less time."""

from __future__ import annotations

import contextlib
import ctypes
import functools

import torch

MAX_ERROR = 1e-6
"""Largest relative error of a float32 product: one of bfloat16 factors has 3e-3."""

MALLOC_SETTINGS = {-3: 2**25, -1: 2**30}
"""Numbers of `mallopt`: blocks of up to 32 MB, the most that older glibc allows, come from the heap, which stays."""


def set_up_cpu() -> None:
    """Let this process compute faster from now on, as every run on a CPU does.

    - Numbers below 1e-38 become zero: an Intel processor is many times slower on them.
    - Freed memory stays: the system clears each page that a process takes anew, which in small models takes a quarter
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
    except RuntimeError:  # it was chosen for one backend alone, and stays so
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

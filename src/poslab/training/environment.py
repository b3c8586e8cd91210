"""The environment of a run beside its configuration: versions, commit, hardware and memory."""

from __future__ import annotations

import contextlib
import os
import platform
import resource
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from poslab.runs.trainer_settings import TrainerSettings, cpuinfo

PACKAGES = (
    *("poslab", "torch", "lightning", "hydra-core", "omegaconf"),
    *("torchmetrics", "datasets", "tokenizers", "numpy"),
)


def environment(settings: TrainerSettings) -> dict[str, Any]:
    """Return versions, commit, hardware and precision, as plain data."""
    return {
        "python": platform.python_version(),
        "packages": {name: metadata.version(name) for name in PACKAGES},
        "commit": commit(),
        "command": sys.argv,
        "host": platform.node(),
        "platform": platform.platform(),
        "processor": cpuinfo("model name") or platform.processor(),
        "cpu_cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
        "precision": settings.resolved_precision,
    }


def reset_peak_memory() -> None:
    """Reset the peak of this process, such as that of an earlier run of a multirun, if the system can."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    with contextlib.suppress(OSError):  # only Linux has it
        Path("/proc/self/clear_refs").write_text("5")


def memory_bytes(on_gpu: bool) -> int:
    """Return the memory of a GPU, or of this machine, or of the container of this process."""
    if on_gpu:
        return int(torch.cuda.get_device_properties(0).total_memory)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = Path("/sys/fs/cgroup/memory.max")
    with contextlib.suppress(OSError, ValueError):  # no container, or one without a limit
        memory = min(memory, int(limit.read_text()))
    return memory


def peak_memory_mb(device: torch.device) -> float:
    """Return the peak memory of the run so far, in MB: that of the device, or of the process on a CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e6
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak * (1 if sys.platform == "darwin" else 1024) / 1e6


def commit() -> str | None:
    """Return the commit of the checkout, with `+` if files differ from it; None outside of a checkout.

    A checkout around an environment with an installed package is another project: its settings of git can run code.
    """
    checkout = Path(__file__).parents[3]
    if not (checkout / ".git").exists():
        return None
    git = ["git", "-C", str(checkout)]
    try:
        commit = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True)
        changes = subprocess.run([*git, "status", "--porcelain"], capture_output=True, text=True)
    except FileNotFoundError:
        return None
    return commit.stdout.strip() + ("+" if changes.stdout.strip() else "") if commit.returncode == 0 else None

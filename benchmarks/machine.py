"""The machine that figures depend on, without anything that identifies its owner."""

from __future__ import annotations

import platform
from importlib.metadata import version
from pathlib import Path

import psutil
import torch


def machine() -> dict[str, object]:
    """Return processor, threads, memory and the versions of what is measured."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = [line.partition(":") for line in cpuinfo.read_text().splitlines()] if cpuinfo.is_file() else []
    known = {name.strip(): value.strip() for name, _, value in lines}
    features = known.get("flags", "").split()
    return {
        "processor": known.get("model name") or platform.processor(),
        "instructions": [name for name in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if name in features],
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "threads": torch.get_num_threads(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30),
        "python": platform.python_version(),
        **{name: version(name).partition("+")[0] for name in ("torch", "transformers", "x-transformers")},
    }

"""Precisions of training, by their names in Lightning."""

from __future__ import annotations

import torch

from poslab.io.reading import read_json
from poslab.runs.directory import RunDirectory

MIXED = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}
"""Type of products in each mixed precision, whose weights are float32."""


def precision_of(run: RunDirectory) -> str | None:
    """Return the precision of a run's training; None if it is not known."""
    try:
        precision = read_json(run.environment_file).get("precision")
    except ValueError:  # the file is lost
        return None
    return precision if isinstance(precision, str) else None


def autocast(precision: str | None, device: torch.device) -> torch.autocast:
    """Return the context in which a model with float32 weights computes as in training in a precision."""
    dtype = None if precision is None else MIXED.get(precision)
    return torch.autocast(device.type, dtype or torch.bfloat16, enabled=dtype is not None)

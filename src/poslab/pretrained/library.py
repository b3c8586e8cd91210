"""The transformers package, which is optional."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import Any

from poslab.configuration.command_line import pip_install

MIN_VERSION = "5.20"
"""Earliest version of transformers that Poslab serves."""


def require_transformers(purpose: str) -> None:
    """Raise ValueError, beginning with the purpose, if transformers is missing or of another major version."""
    if not has_transformers():
        raise ValueError(
            f"{purpose} needs transformers from {MIN_VERSION} to below 6, got {_found()}: {pip_install('pretrained')}"
        )


def has_transformers() -> bool:
    """Return True if transformers is there, in a version that Poslab serves."""
    major, _, rest = _found().partition(".")
    return major == "5" and int(rest.partition(".")[0]) >= 20


def library_model(model: Any) -> Any:
    """Return a model of transformers without the wrapper of `torch.compile`; ValueError for anything else."""
    from transformers import PreTrainedModel

    model = getattr(model, "_orig_mod", model)
    if not isinstance(model, PreTrainedModel):
        raise ValueError(f"model must be one of transformers, got {type(model).__name__}")
    return model


def _found() -> str:
    try:
        return version("transformers")
    except PackageNotFoundError:
        return "none"

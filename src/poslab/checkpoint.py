"""Checkpoint files: written so that a kill at any moment leaves a whole one, and read without running their code."""

from __future__ import annotations

import os
import pickle
import zipfile
import zlib
from pathlib import Path
from typing import Any

import torch

from poslab.run_directory import RunDirectory

OWN_STATE = "RunCheckpoints"
"""Where, among the states of a checkpoint's callbacks, stands that of Poslab's own; others have none there."""


def checkpoint_file(run: str | Path) -> Path:
    """The checkpoint that is meant: the best one of a run directory, or the one that is named itself.

    Raises:
        ValueError: if it is neither a run directory nor named `*.ckpt`.
    """
    path = Path(run)
    return path if path.suffix == ".ckpt" else RunDirectory.of(path).best_checkpoint


def save_atomically(checkpoint: dict[str, Any], path: Path) -> None:
    """Puts a checkpoint in the place of `path` once it is on the disk.

    Raises:
        OSError: if it cannot be written, a full disk among other reasons; what was there before is still there.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.writing")
    try:
        with temporary.open("wb") as file:
            torch.save(checkpoint, file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except RuntimeError as error:
        if isinstance(error.__context__, OSError):
            raise error.__context__ from None  # a full disk, which torch.save covers with an error of its own
        raise
    finally:
        temporary.unlink(missing_ok=True)


def load_checkpoint(path: Path) -> dict[str, Any]:
    """The contents of a checkpoint of this project, on the CPU.

    Raises:
        ValueError: if it is missing, damaged, not of this project, or holds anything but plain data.
    """
    if not path.is_file():
        others = sorted(path.parent.glob("[!.]*.ckpt"))
        raise ValueError(f"there is no checkpoint {path}" + (f", but there is {others[-1]}" if others else ""))
    if not _is_intact(path):
        raise ValueError(f"the checkpoint {path} is damaged: it cannot be read")
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ValueError(f"the checkpoint {path} holds code, which is never run, or is damaged") from error
    except RuntimeError as error:  # another kind of zip file
        raise ValueError(f"the checkpoint {path} was not written by Poslab") from error
    callbacks = checkpoint.get("callbacks") if isinstance(checkpoint, dict) else None
    if not isinstance(callbacks, dict) or OWN_STATE not in callbacks:
        raise ValueError(f"the checkpoint {path} was not written by Poslab")
    return checkpoint


def _is_intact(path: Path) -> bool:
    """Whether the checksums of the file are right: torch does not look at them, and would load spoilt weights."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None
    except (zipfile.BadZipFile, zlib.error, EOFError, UnicodeDecodeError, RuntimeError):
        return False


def model_weights(checkpoint: dict[str, Any]) -> dict[str, torch.Tensor]:
    """The weights of the learner's model, by the names that the model itself gives them."""
    prefix = "model."
    return {name.removeprefix(prefix): w for name, w in checkpoint["state_dict"].items() if name.startswith(prefix)}

"""Checkpoint files, written so that a kill at any moment leaves a whole one, and read as verified plain data."""

from __future__ import annotations

import functools
import hashlib
import os
import sys
import zipfile
import zlib
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from poslab.io.files import replacing
from poslab.io.plain_pickle import load_plain
from poslab.io.terminal import one_line
from poslab.models.adaptation import merged
from poslab.runs.directory import RunDirectory

OWN_STATE = "RunCheckpoints"
"""Key of Poslab's own state among those of a checkpoint's callbacks; other programs have none."""
CONFIG = "config"
"""Key, in `OWN_STATE`, of the hashes of the configuration of the run; checkpoints of earlier versions have none."""
MAY_CHANGE = {"dataset", "trainer", "callbacks", "logger"}
"""Groups of a configuration that say where a run finds its data and how it is computed: a user may move either."""
CHECKSUM = "checksum"
"""Key of the checksum of all else in a checkpoint; those of earlier versions have none."""
MODEL = "model."
"""Prefix of the names of a model's weights in a checkpoint."""
ENCODING_CURVES = "EncodingCurves"
"""Key, beside `OWN_STATE`, of the initial state of the encodings."""
MAX_VALUES = 1_000_000
"""Most numbers, texts and tensors in a checkpoint; one of ours with 100 layers has about 10,000."""


def checkpoint_file(run: str | Path) -> Path:
    """Return the best checkpoint of a run directory, or the given checkpoint itself.

    Raises:
        ValueError: if it is neither a run directory nor named `*.ckpt`.
    """
    path = Path(run)
    return path if path.suffix == ".ckpt" else RunDirectory.of(path).best_checkpoint


def save_atomically(checkpoint: dict[str, Any], path: Path) -> None:
    """Replace `path` by a checkpoint, with a checksum of its contents, once it is on the disk.

    Raises:
        OSError: if it cannot be written, such as on a full disk; the earlier file is then still there.
        ValueError: naming the callback, if a state in it could not be read again.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {key: value for key, value in checkpoint.items() if key != CHECKSUM}
    for name, state in content.get("callbacks", {}).items():
        try:
            checksum(state)
        except ValueError as error:
            raise ValueError(f"callbacks: the state of {name} cannot be saved: {error}") from error
    try:
        with replacing(path) as file:
            torch.save({**content, CHECKSUM: checksum(content)}, file)
            file.flush()
            os.fsync(file.fileno())
    except RuntimeError as error:
        if isinstance(error.__context__, OSError):
            raise error.__context__ from None  # a full disk, which torch.save hides behind an error of its own
        raise


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Load the contents of a checkpoint of this project, on the CPU.

    It needs no more memory than the file has bytes, and runs nothing in it.

    Raises:
        ValueError: if it is missing, damaged, not of this project, or holds anything but plain data.
    """
    _require_file(path)
    if not _is_intact(path):
        raise ValueError(f"the checkpoint {path} is damaged: it cannot be read{_another(path)}")
    try:
        checkpoint = load_plain(path)
    except KeyError as error:  # another kind of zip file
        raise ValueError(f"the checkpoint {path} was not written by Poslab") from error
    except Exception as error:  # a file that is not a checkpoint may raise anything
        reason = f"holds code, which is never run, or is damaged{_another(path)}"
        raise ValueError(f"the checkpoint {path} {reason}") from error
    callbacks = checkpoint.get("callbacks") if isinstance(checkpoint, dict) else None
    if not isinstance(callbacks, dict) or OWN_STATE not in callbacks:
        raise ValueError(f"the checkpoint {path} was not written by Poslab")
    known = checkpoint.pop(CHECKSUM, None)
    try:
        is_right = checksum(checkpoint) == known or known is None
        _check_contents(checkpoint)
    except ValueError as error:
        raise ValueError(f"the checkpoint {path} is damaged: {error}{_another(path)}") from error
    if not is_right:
        raise ValueError(f"the checkpoint {path} is damaged: its checksum is wrong{_another(path)}")
    return checkpoint


def check_configuration(run: RunDirectory, checkpoint: Mapping[str, Any]) -> None:
    """Check that the configuration of a run is still that of its checkpoint, where the checkpoint knows it.

    A change of the groups `MAY_CHANGE` is only a line of warning.

    Raises:
        ValueError: naming the groups that have changed.
    """
    known, now = checkpoint["callbacks"][OWN_STATE].get(CONFIG), run.config_hashes()
    if not isinstance(known, dict) or not known:
        return
    changed = sorted(key for key in {**known, **now} if known.get(key) != now.get(key))
    what = ", ".join(changed)
    sentence = f"{run.config_file} was edited, or is damaged: its checkpoint was trained with another {what}"
    if not MAY_CHANGE.issuperset(changed):
        raise ValueError(f"{sentence}; undo the edit, or start a new run with init_from={run.path}")
    if changed:
        _warn_once(sentence)


@functools.cache
def _warn_once(sentence: str) -> None:
    print(one_line(f"warning: {sentence}"), file=sys.stderr)


def checkpoint_digest(path: Path) -> str:
    """Return the SHA-256 of a checkpoint's file; ValueError if there is none."""
    _require_file(path)
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def load_weights(path: Path) -> dict[str, torch.Tensor]:
    """Load the weights of the learner's model, as of `model_weights`.

    Raises:
        ValueError: as `load_checkpoint` does, and if there are none.
    """
    weights = model_weights(load_checkpoint(path))
    if not weights:
        raise ValueError(f"the checkpoint {path} holds no weights of a model")
    return weights


def model_weights(checkpoint: dict[str, Any]) -> dict[str, torch.Tensor]:
    """Return the weights of the learner's model, by the model's own names, with updates of low rank added to them.

    Raises:
        ValueError: for an update that does not fit its matrix.
    """
    weights = checkpoint.get("state_dict", {}).items()
    return merged({name.removeprefix(MODEL): weight for name, weight in weights if name.startswith(MODEL)})


def checksum(value: Any) -> str:
    """Return the SHA-256 of plain data: dictionaries, lists, tuples, numbers, texts and tensors.

    Raises:
        ValueError: for another type, for keys that are neither texts nor integers, for tensors whose elements share
            memory, and for more than a million values.
    """
    digest = hashlib.sha256()
    waiting, count = [value], 0
    while waiting:
        one = waiting.pop()
        count += 1
        if count > MAX_VALUES:
            raise ValueError(f"it must hold at most {MAX_VALUES:,} values")
        if isinstance(one, torch.Tensor):
            digest.update(f"{one.dtype} {tuple(one.shape)}".encode())
            digest.update(_bytes_of(one))
        elif type(one) in (dict, OrderedDict):
            if other := next((key for key in one if type(key) not in (str, int)), None):
                raise ValueError(f"the keys of its dictionaries must be texts or integers, got {type(other).__name__}")
            digest.update(f"dict {len(one)}".encode())
            waiting += [part for item in one.items() for part in item]
        elif type(one) in (list, tuple, torch.Size):
            digest.update(f"list {len(one)}".encode())
            waiting += one
        elif type(one) in (type(None), bool, int, float, str, torch.dtype, torch.device):
            digest.update(f"{type(one).__name__} {one!r};".encode(errors="surrogatepass"))
        else:
            raise ValueError(f"it must hold plain data alone, got {type(one).__name__}")
    return digest.hexdigest()


def _bytes_of(tensor: torch.Tensor) -> memoryview:
    """Return the contents of a tensor; raise ValueError if elements share memory, as in an expanded one."""
    if tensor.layout != torch.strided or tensor.device.type == "meta":
        raise ValueError("a tensor in it is not dense")
    if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        raise ValueError("elements of a tensor in it share memory")
    plain = tensor.detach().cpu().contiguous().reshape(-1)
    return plain.view(torch.uint8).numpy().data if plain.numel() else memoryview(b"")


def _check_contents(checkpoint: dict[str, Any]) -> None:
    """Raise ValueError if a part that Poslab or Lightning reads has another type than we write."""
    for key, kind in (("state_dict", dict), ("loops", dict), ("optimizer_states", list), ("lr_schedulers", list)):
        if not isinstance(checkpoint.get(key, kind()), kind):
            raise ValueError(f"its {key} must be a {kind.__name__}")
    if not isinstance(checkpoint["callbacks"][OWN_STATE], dict):
        raise ValueError(f"its {OWN_STATE} must be a dict")
    weights = checkpoint.get("state_dict", {})
    if not all(isinstance(name, str) and isinstance(weight, torch.Tensor) for name, weight in weights.items()):
        raise ValueError("its state_dict must hold tensors by name")
    step = checkpoint.get("global_step", 0)
    if type(step) is not int or step < 0:
        raise ValueError(f"its global_step must be a number of steps, got {str(step)[:40]}")


def _require_file(path: Path) -> None:
    if not path.is_file():
        others = sorted(path.parent.glob("[!.]*.ckpt"))
        raise ValueError(f"there is no checkpoint {path}" + (f", but there is {others[-1]}" if others else ""))


def _another(path: Path) -> str:
    """Return the end of a sentence that names another checkpoint; "" if there is none."""
    for other in sorted(path.parent.glob("[!.]*.ckpt"), reverse=True):
        if other.name != path.name and _is_intact(other):
            return f", but {other} is whole"
    return ""


def _is_intact(path: Path) -> bool:
    """Return True if the checksums of the zip file are right: torch ignores them, and would load spoilt weights."""
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            # torch.save compresses nothing: compressed entries, or one stored for many, could stand for terabytes.
            are_plain = all(entry.compress_type == zipfile.ZIP_STORED for entry in entries)
            are_apart = sum(entry.file_size for entry in entries) <= path.stat().st_size
            return are_plain and are_apart and archive.testzip() is None
    except (zipfile.BadZipFile, zlib.error, EOFError, UnicodeDecodeError, RuntimeError, NotImplementedError, OSError):
        return False


def encoding_start(checkpoint: dict[str, Any]) -> dict[str, torch.Tensor] | None:
    """Return the state that a model's encodings began with; None if the run has not kept it.

    Runs of earlier versions kept that of learned biases alone; a run that is sharded among processes keeps none.
    """
    curves = checkpoint["callbacks"].get(ENCODING_CURVES)
    start = curves.get("start") if isinstance(curves, dict) else None
    is_state = isinstance(start, dict) and all(isinstance(value, torch.Tensor) for value in start.values())
    return start if start and is_state else None

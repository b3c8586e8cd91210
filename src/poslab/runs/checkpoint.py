"""Checkpoints: the state of a run as safetensors, with all that is no tensor as JSON in the header of the same file.

A kill at any moment leaves a whole file. Reading one runs no code.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import sys
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from poslab.io.files import replacing
from poslab.io.terminal import one_line
from poslab.models.adaptation import merged
from poslab.runs.directory import CHECKPOINT, RunDirectory

OWN_STATE = "RunCheckpoints"  # key of Poslab's own state among the states of a checkpoint's callbacks
CONFIG = "config"  # key, in `OWN_STATE`, of the hashes of the configuration of the run
MAY_CHANGE = {"dataset", "trainer", "callbacks", "logger"}
"""Groups of a configuration that say where a run finds its data and how it is computed: a user may move either."""
MODEL = "model."  # prefix of the names of a model's weights in a checkpoint
ENCODING_CURVES = "EncodingCurves"  # key, next to `OWN_STATE`, of the initial state of the encodings
STATE, CHECKSUM = "poslab", "checksum"
"""Keys in the header of a checkpoint: its contents as JSON, with names for tensors, and the SHA-256 of all of it."""
MAX_STATE = 10_000_000  # most characters of this JSON; a checkpoint of 100 layers has about 2,000,000
TENSOR, TUPLE, ITEMS = "$tensor", "$tuple", "$items"
"""Keys in this JSON of a tensor by its name, of a tuple, and of a dictionary whose keys are not all texts."""

DTYPES = {
    **{torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16"},
    **{torch.int64: "I64", torch.int32: "I32", torch.int16: "I16", torch.int8: "I8"},
    **{torch.uint8: "U8", torch.bool: "BOOL", torch.complex64: "C64"},
}
"""Names of dtypes in safetensors files."""


def checkpoint_file(run: str | Path) -> Path:
    """Return the best checkpoint of a run directory, or the given `*.safetensors` itself; else ValueError."""
    path = Path(run)
    if path.suffix == ".ckpt":
        raise ValueError(f"{run}: a checkpoint is now {path.with_suffix(CHECKPOINT)}")
    return path if path.suffix == CHECKPOINT else RunDirectory.of(path).best_checkpoint


def save_atomically(checkpoint: Mapping[str, Any], path: Path) -> None:
    """Replace `path` by a checkpoint, with a checksum of its contents, once it is on the disk.

    OSError, such as on a full disk, leaves the earlier file. A state that is not plain data (dictionaries, lists,
    tuples, numbers, texts and dense tensors) raises ValueError, naming the callback.
    """
    for name, state in checkpoint.get("callbacks", {}).items():
        try:
            _Encoder().encode(state)
        except ValueError as error:
            raise ValueError(f"callbacks: the state of {name} cannot be saved: {error}") from error
    encoder = _Encoder()
    state = json.dumps(encoder.encode(checkpoint))
    header = {STATE: state, CHECKSUM: _checksum(state, encoder.tensors)}
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as file:
        _write(file, encoder.tensors, header)
        file.flush()
        os.fsync(file.fileno())


def _write(file: BinaryIO, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write a safetensors file. `save_file` of the library makes its own temporary file, which a kill would leave."""
    header: dict[str, Any] = {"__metadata__": metadata}
    end = 0
    for name, tensor in tensors.items():
        start, end = end, end + tensor.nbytes
        header[name] = {"dtype": DTYPES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    file.write(len(text).to_bytes(8, "little") + text)
    for tensor in tensors.values():
        file.write(_bytes_of(tensor))


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Load a checkpoint on the CPU; ValueError if it is missing, damaged or not of this project.

    It needs no more memory than the file has bytes, and runs nothing in it.
    """
    _require_file(path)
    try:
        state, tensors = _read(path)
    except (SafetensorError, OSError) as error:
        raise ValueError(f"the checkpoint {path} is damaged: it cannot be read{_another(path)}") from error
    except KeyError as error:
        raise ValueError(f"the checkpoint {path} was not written by Poslab") from error
    try:
        checkpoint = _decoded(json.loads(state), tensors)
        _check_contents(checkpoint)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"the checkpoint {path} is damaged: {error}{_another(path)}") from error
    assert isinstance(checkpoint, dict)
    return checkpoint


def _read(path: Path) -> tuple[str, dict[str, Tensor]]:
    """Return the JSON and the tensors of a checkpoint.

    SafetensorError or OSError means that they are damaged, KeyError that another program wrote the file.
    """
    while True:
        before = path.stat()
        try:
            with safe_open(path, "pt") as file:
                header = file.metadata() or {}
                # Copies, since the memory of the file may be aligned differently from memory of new tensors.
                tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
            if len(header[STATE]) > MAX_STATE or header[CHECKSUM] != _checksum(header[STATE], tensors):
                raise SafetensorError("its JSON is too long, or its checksum is wrong")
            return header[STATE], tensors
        except SafetensorError:
            # The library opens a file once for its header and once for its data: it may be replaced in between.
            now = path.stat()
            if (now.st_ino, now.st_mtime_ns) == (before.st_ino, before.st_mtime_ns):
                raise


class _Encoder:
    """Encoder of plain data as JSON and tensors by name; tensors that are the same memory are stored once."""

    def __init__(self) -> None:
        self.tensors: dict[str, Tensor] = {}
        self._names: dict[tuple[Any, ...], str] = {}

    def encode(self, value: Any, path: str = "") -> Any:
        """Return a value as JSON; raise ValueError for what is not plain data."""
        if isinstance(value, Tensor):
            return {TENSOR: self._name(value.detach(), path)}
        if type(value) in (dict, OrderedDict):
            items = []
            for key, item in value.items():
                name = f"{path}.{key}" if path else str(key)
                # Weights have the names of the model.
                items.append((key, self.encode(item, "" if name == "state_dict" else name)))
            if all(type(key) is str for key in value) and not value.keys() & {TENSOR, TUPLE, ITEMS}:
                return dict(items)
            if other := next((key for key in value if type(key) not in (str, int)), None):
                raise ValueError(f"the keys of its dictionaries must be texts or integers, got {type(other).__name__}")
            return {ITEMS: items}
        if type(value) in (list, tuple):
            encoded = [self.encode(item, f"{path}.{number}") for number, item in enumerate(value)]
            return encoded if type(value) is list else {TUPLE: encoded}
        if type(value) in (type(None), bool, int, float, str):
            return value
        raise ValueError(f"it must contain only plain data, got {type(value).__name__}")

    def _name(self, tensor: Tensor, name: str) -> str:
        """Keep a tensor under a name, or return the name that it has already."""
        if tensor.layout != torch.strided or tensor.device.type == "meta" or tensor.dtype not in DTYPES:
            raise ValueError(f"a tensor in it is not dense, or is {tensor.dtype}")
        memory = (tensor.data_ptr(), tensor.dtype, tuple(tensor.shape), tensor.stride(), tensor.device)
        if not tensor.numel() or memory not in self._names:
            while name in self.tensors:
                name += "_"
            is_whole = tensor.is_contiguous() and tensor.untyped_storage().nbytes() == tensor.nbytes
            self.tensors[name] = tensor if is_whole else tensor.clone(memory_format=torch.contiguous_format)
            self._names[memory] = name
        return self._names[memory]


def _decoded(node: Any, tensors: Mapping[str, Tensor]) -> Any:
    """Return the value that `_Encoder` encoded; raise KeyError or TypeError for JSON that it does not write."""
    if isinstance(node, list):
        return [_decoded(item, tensors) for item in node]
    if not isinstance(node, dict):
        return node
    if TENSOR in node:
        return tensors[node[TENSOR]]
    if TUPLE in node:
        return tuple(_decoded(node[TUPLE], tensors))
    items = node[ITEMS] if ITEMS in node else node.items()
    return {key: _decoded(item, tensors) for key, item in items}


def _checksum(state: str, tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256(state.encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(_bytes_of(tensor))
    return digest.hexdigest()


def _bytes_of(tensor: Tensor) -> memoryview:
    return tensor.cpu().reshape(-1).view(torch.uint8).numpy().data if tensor.numel() else memoryview(b"")


def check_configuration(run: RunDirectory, checkpoint: Mapping[str, Any]) -> None:
    """Raise ValueError, naming the groups, if the configuration of a run differs from what its checkpoint knows of it.

    A change of the groups `MAY_CHANGE` is only a line of warning.
    """
    known, now = checkpoint["callbacks"][OWN_STATE].get(CONFIG), run.config_hashes()
    if not isinstance(known, dict) or not known:  # not a run of a command
        return
    changed = sorted(key for key in {**known, **now} if known.get(key) != now.get(key))
    groups = ", ".join(changed)
    sentence = f"{run.config_file} was edited, or is damaged: its checkpoint was trained with another {groups}"
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


def load_weights(path: Path) -> dict[str, Tensor]:
    """Load the weights of the learner's model, as of `model_weights`; ValueError if there are none."""
    weights = model_weights(load_checkpoint(path))
    if not weights:
        raise ValueError(f"the checkpoint {path} has no weights of a model")
    return weights


def model_weights(checkpoint: dict[str, Any]) -> dict[str, Tensor]:
    """Return the weights of the learner's model, by its own names, with updates of low rank added (see `merged`)."""
    weights = checkpoint.get("state_dict", {}).items()
    return merged({name.removeprefix(MODEL): weight for name, weight in weights if name.startswith(MODEL)})


def _check_contents(checkpoint: Any) -> None:
    """Raise ValueError if a part that Poslab or Lightning reads has another type than we write."""
    callbacks = checkpoint.get("callbacks") if isinstance(checkpoint, dict) else None
    if not isinstance(callbacks, dict) or not isinstance(callbacks.get(OWN_STATE), dict):
        raise ValueError(f"its {OWN_STATE} must be a dict")
    for key, kind in (("state_dict", dict), ("loops", dict), ("optimizer_states", list), ("lr_schedulers", list)):
        if not isinstance(checkpoint.get(key, kind()), kind):
            raise ValueError(f"its {key} must be a {kind.__name__}")
    weights = checkpoint.get("state_dict", {})
    if not all(isinstance(name, str) and isinstance(weight, Tensor) for name, weight in weights.items()):
        raise ValueError("its state_dict must contain tensors by name")
    step = checkpoint.get("global_step", 0)
    if type(step) is not int or step < 0:
        raise ValueError(f"its global_step must be a number of steps, got {str(step)[:40]}")


def _require_file(path: Path) -> None:
    if not path.is_file():
        others = sorted(path.parent.glob(f"[!.]*{CHECKPOINT}"))
        raise ValueError(f"there is no checkpoint {path}" + (f", but there is {others[-1]}" if others else ""))


def _another(path: Path) -> str:
    """Return the end of a sentence that names another checkpoint; "" if there is none."""
    for other in sorted(path.parent.glob(f"[!.]*{CHECKPOINT}"), reverse=True):
        if other.name != path.name:
            with contextlib.suppress(SafetensorError, OSError, KeyError):
                _read(other)
                return f", but {other} is whole"
    return ""


def encoding_start(checkpoint: dict[str, Any]) -> dict[str, Tensor] | None:
    """Return the state that a model's encodings started with; None for a run that was sharded among processes."""
    curves = checkpoint["callbacks"].get(ENCODING_CURVES)
    start = curves.get("start") if isinstance(curves, dict) else None
    is_state = isinstance(start, dict) and all(isinstance(value, Tensor) for value in start.values())
    return start if start and is_state else None

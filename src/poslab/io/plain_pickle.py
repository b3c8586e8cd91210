"""Plain data of `torch.save`, read by following its pickle step by step, without running anything that it names.

`torch.load(weights_only=True)` does not run foreign code either, but it makes `bytearray(n)` for any n and tensors of
more elements than are stored, and it hashes keys that cost exponential time. Here each value was stored in full.
"""

from __future__ import annotations

import pickletools
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

MAX_PICKLED = 5_000_000
"""Most bytes outside of tensors; a checkpoint of ours with 100 layers has about 900,000."""

DTYPES = {str(dtype).replace(".", " "): dtype for dtype in vars(torch).values() if isinstance(dtype, torch.dtype)}
"""Dtypes by their global in a pickle, such as `torch float32`."""

STORAGES = {
    "torch DoubleStorage": torch.float64,
    "torch FloatStorage": torch.float32,
    "torch HalfStorage": torch.float16,
    "torch BFloat16Storage": torch.bfloat16,
    "torch LongStorage": torch.int64,
    "torch IntStorage": torch.int32,
    "torch ShortStorage": torch.int16,
    "torch CharStorage": torch.int8,
    "torch ByteStorage": torch.uint8,
    "torch BoolStorage": torch.bool,
    "torch ComplexDoubleStorage": torch.complex128,
    "torch ComplexFloatStorage": torch.complex64,
}


def load_plain(path: Path) -> Any:
    """Load the plain data of a file by `torch.save` onto the CPU, in about as much memory as the file has bytes.

    Raises:
        KeyError: if the zip file has no pickle.
        ValueError: for anything but dictionaries, lists, tuples, numbers, texts and dense tensors within the file's
            size.
    """
    with zipfile.ZipFile(path) as archive:
        entries = {name.partition("/")[2]: archive.getinfo(name) for name in archive.namelist()}
        pickled = entries["data.pkl"]
        if pickled.file_size > MAX_PICKLED:
            raise ValueError(f"its pickle must be at most {MAX_PICKLED:,} bytes long")
        if "byteorder" in entries and archive.read(entries["byteorder"]) != b"little":
            raise ValueError("its numbers must be little-endian")
        return _Machine(archive, entries).run(archive.read(pickled))


@dataclass(frozen=True)
class _Name:
    """Global that a pickle names, such as `collections OrderedDict`."""

    name: str


@dataclass(frozen=True)
class _Storage:
    """Stored elements that tensors share."""

    elements: torch.Tensor


_MARK = object()


@dataclass
class _Machine:
    """Stack machine that runs a pickle, limited to the steps that write plain data."""

    archive: zipfile.ZipFile
    entries: dict[str, zipfile.ZipInfo]
    stack: list[Any] = field(default_factory=list)
    memo: dict[int, Any] = field(default_factory=dict)
    storages: dict[str, _Storage] = field(default_factory=dict)

    def run(self, pickled: bytes) -> Any:
        try:
            for step, argument, _ in pickletools.genops(pickled):
                if step.name not in _STEPS:
                    raise ValueError(f"its pickle must not use {step.name}")
                _STEPS[step.name](self, argument)
            return self.stack.pop()
        except (IndexError, TypeError) as error:
            raise ValueError("its pickle has a step with too few or wrong operands") from error

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def keep(self, number: int) -> None:
        self.memo[number] = self.stack[-1]

    def recall(self, number: int) -> None:
        self.push(_known(self.memo, number))

    def name(self, name: str) -> None:
        if name not in DTYPES and name not in STORAGES and name not in _MADE:
            raise ValueError(f"its pickle must not name {name}")
        self.push(DTYPES.get(name, _Name(name)))

    def pop_to_mark(self) -> list[Any]:
        place = len(self.stack) - 1
        while self.stack[place] is not _MARK:
            place -= 1
            if place < 0:
                raise ValueError("its pickle lacks a mark")
        items = self.stack[place + 1 :]
        del self.stack[place:]
        return items

    def pop(self, count: int) -> list[Any]:
        return [self.stack.pop() for _ in range(count)][::-1]

    def append(self, items: list[Any]) -> None:
        _of_type(list, self.stack[-1]).extend(items)

    def set_items(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if type(target) not in (dict, OrderedDict) or len(items) % 2:
            raise ValueError("its pickle sets keys of what is not a dictionary")
        for key, value in zip(items[::2], items[1::2], strict=True):
            if type(key) not in (str, int):  # before it is hashed: nested tuples take exponential time
                raise ValueError(f"the keys of its dictionaries must be texts or integers, got {type(key).__name__}")
            target[key] = value

    def make(self) -> None:
        maker, arguments = self.pop(2)
        self.push(_known(_MADE, _of_type(_Name, maker).name)(*_of_type(tuple, arguments)))

    def set_attributes(self) -> None:
        target, attributes = self.pop(2)
        versions = _of_type(dict, attributes).get("_metadata")
        if len(attributes) != 1 or not all(type(one) is dict for one in _of_type(OrderedDict, versions).values()):
            raise ValueError("its pickle must add nothing to a dictionary but the versions of modules")
        _of_type(OrderedDict, target)._metadata = versions
        self.push(target)

    def load_storage(self) -> None:
        _, storage, key, _, count = _of_type(tuple, self.stack.pop())
        dtype = _known(STORAGES, _of_type(_Name, storage).name)
        entry = _known(self.entries, f"data/{_of_type(str, key)}")
        if entry.file_size != _of_type(int, count) * dtype.itemsize:
            raise ValueError("a tensor in it must have as many elements as are stored")
        if key not in self.storages:
            elements = torch.empty(count, dtype=dtype)
            if count:
                with self.archive.open(entry) as file:
                    file.readinto(elements.view(torch.uint8).numpy())  # type: ignore[attr-defined]
            self.storages[key] = _Storage(elements)
        if self.storages[key].elements.dtype != dtype:
            raise ValueError("tensors in it must not share elements of two dtypes")
        self.push(self.storages[key])


def _tensor(storage: Any, offset: Any, size: Any, stride: Any, *others: Any) -> torch.Tensor:
    """Return a tensor of stored elements; other arguments, such as hooks, are not plain data and are dropped."""
    shape = [_of_type(tuple, size), _of_type(tuple, stride)]
    if len(size) != len(stride) or any(_of_type(int, number) < 0 for number in (offset, *size, *stride)):
        raise ValueError("a tensor in it has an impossible shape")
    elements = _of_type(_Storage, storage).elements
    last = offset + sum((length - 1) * step for length, step in zip(*shape, strict=True))
    if 0 not in size and last >= len(elements):
        raise ValueError("a tensor in it has more elements than are stored")
    return torch.empty(0, dtype=elements.dtype).set_(elements.untyped_storage(), offset, size, stride)


def _of_type(kind: type, value: Any) -> Any:
    if type(value) is not kind:
        raise ValueError(f"its pickle must have a {kind.__name__} where there is a {type(value).__name__}")
    return value


def _known(table: dict[Any, Any], key: Any) -> Any:
    if key not in table:
        raise ValueError(f"its pickle names {key!r}, which is not there")
    return table[key]


_MADE: dict[str, Callable[..., Any]] = {
    "collections OrderedDict": lambda: OrderedDict(),
    "torch._utils _rebuild_tensor_v2": _tensor,
    "torch._utils _rebuild_parameter": lambda data, *others: _of_type(torch.Tensor, data),
    "torch Size": lambda numbers: torch.Size([_of_type(int, number) for number in _of_type(tuple, numbers)]),
    "torch device": lambda name, *index: torch.device(_of_type(str, name), *(_of_type(int, one) for one in index)),
}
"""Replacement of each function that a pickle may call."""

_STEPS: dict[str, Callable[[_Machine, Any], None]] = {
    "PROTO": lambda machine, _: None,
    "STOP": lambda machine, _: None,
    "MARK": lambda machine, _: machine.push(_MARK),
    "NONE": lambda machine, _: machine.push(None),
    "NEWTRUE": lambda machine, _: machine.push(True),
    "NEWFALSE": lambda machine, _: machine.push(False),
    "EMPTY_DICT": lambda machine, _: machine.push({}),
    "EMPTY_LIST": lambda machine, _: machine.push([]),
    "EMPTY_TUPLE": lambda machine, _: machine.push(()),
    **dict.fromkeys(("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE"), _Machine.push),
    **dict.fromkeys(("BINPUT", "LONG_BINPUT"), _Machine.keep),
    **dict.fromkeys(("BINGET", "LONG_BINGET"), _Machine.recall),
    "TUPLE": lambda machine, _: machine.push(tuple(machine.pop_to_mark())),
    "TUPLE1": lambda machine, _: machine.push(tuple(machine.pop(1))),
    "TUPLE2": lambda machine, _: machine.push(tuple(machine.pop(2))),
    "TUPLE3": lambda machine, _: machine.push(tuple(machine.pop(3))),
    "APPEND": lambda machine, _: machine.append(machine.pop(1)),
    "APPENDS": lambda machine, _: machine.append(machine.pop_to_mark()),
    "SETITEM": lambda machine, _: machine.set_items(machine.pop(2)),
    "SETITEMS": lambda machine, _: machine.set_items(machine.pop_to_mark()),
    "GLOBAL": _Machine.name,
    "REDUCE": lambda machine, _: machine.make(),
    "BUILD": lambda machine, _: machine.set_attributes(),
    "BINPERSID": lambda machine, _: machine.load_storage(),
}
"""Steps of a pickle that write plain data; those that make objects, sets and bytes are left out."""

"""A checkpoint of a stranger takes no more memory and time than its bytes, whatever its pickle asks for."""

import pickle
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from poslab.io.plain_pickle import MAX_PICKLED, load_plain
from poslab.runs.checkpoint import load_checkpoint

HUGE = 2**40


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def integer(value: int) -> bytes:
    return b"\x8a\x08" + struct.pack("<q", value)


def named(module: str, name: str) -> bytes:
    return f"c{module}\n{name}\n".encode()


def called(function: bytes, *arguments: bytes) -> bytes:
    return function + b"(" + b"".join(arguments) + b"tR"


def storage(count: int, key: bytes = text("0")) -> bytes:
    """The one of `write`, as if it had that many elements."""
    return b"(" + text("storage") + named("torch", "FloatStorage") + key + text("cpu") + integer(count) + b"tQ"


def tensor(size: Iterable[int], stride: Iterable[int], offset: int = 0, count: int = 3) -> bytes:
    shape = [b"(" + b"".join(map(integer, numbers)) + b"t" for numbers in (size, stride)]
    arguments = (storage(count), integer(offset), *shape, b"\x89", b"N")
    return called(named("torch._utils", "_rebuild_tensor_v2"), *arguments)


def nested_tuple(depth: int) -> bytes:
    """A tuple of twice a tuple of twice a tuple: hashing it takes 2 ** depth steps."""
    return text("a") + b"".join(b"q" + bytes([level]) + b"h" + bytes([level]) + b"\x86" for level in range(depth))


def write(path: Path, value: bytes) -> Path:
    """A checkpoint whose pickle is one value, beside a storage of three numbers."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02" + value + b".")
        archive.writestr("archive/data/0", np.arange(3, dtype=np.float32).tobytes())
    return path


def test_what_torch_saves_of_plain_data_is_loaded_as_it_was(tmp_path: Path) -> None:
    whole = torch.arange(12.0).reshape(3, 4)
    weights = OrderedDict(a=whole, b=whole[1:, ::2], c=torch.zeros(0, 3), d=torch.tensor(2.5))
    weights._metadata = OrderedDict({"": {"version": 1}})  # type: ignore[attr-defined]
    others = [torch.tensor([1, 0]).to(dtype) for dtype in (torch.bfloat16, torch.half, torch.bool, torch.uint8)]
    plain = {"x": [1, -(2**40), 0.5, None, True, "é\udcff", (1, (2, 3), (), (4,))], 3: torch.float16}
    value = {"state": weights, "others": others, "plain": plain, "size": whole.shape, "device": whole.device}
    torch.save(value, tmp_path / "x.ckpt")
    loaded = load_plain(tmp_path / "x.ckpt")
    assert loaded["plain"] == plain and loaded["size"] == (3, 4) and loaded["device"] == whole.device
    assert loaded["state"]._metadata == {"": {"version": 1}}
    pairs = [*zip(weights.values(), loaded["state"].values(), strict=True), *zip(others, loaded["others"], strict=True)]
    assert all(a.dtype == b.dtype and a.stride() == b.stride() and torch.equal(a, b) for a, b in pairs)
    a, b = loaded["state"]["a"], loaded["state"]["b"]
    assert a.untyped_storage().data_ptr() == b.untyped_storage().data_ptr()


@pytest.mark.parametrize(
    "value, reason",
    [
        (called(named("builtins", "bytearray"), integer(HUGE)), "must not name builtins bytearray"),
        (called(named("torch", "Tensor"), integer(HUGE)), "must not name torch Tensor"),
        (called(named("torch", "FloatTensor"), integer(HUGE)), "must not name torch FloatTensor"),
        (called(named("torch.storage", "UntypedStorage"), integer(HUGE)), "must not name torch.storage UntypedStorage"),
        (called(named("os", "system"), text("true")), "must not name os system"),
        (called(named("torch", "FloatStorage"), integer(HUGE)), "names 'torch FloatStorage', which is not there"),
        (named("torch", "Size") + b"(K\x01t\x81", "must not use NEWOBJ"),
        (tensor([HUGE], [1]), "more elements than are stored"),
        (tensor([2], [HUGE]), "more elements than are stored"),
        (tensor([1], [1], offset=3), "more elements than are stored"),
        (tensor([2], [-1], offset=2), "impossible shape"),
        (tensor([1, 1], [1]), "impossible shape"),
        (tensor([1], [1], count=HUGE), "as many elements as are stored"),
        (storage(3, key=text("../data.pkl")), "names 'data/../data.pkl', which is not there"),
        (storage(3, key=nested_tuple(50)), "must have a str where there is a tuple"),
        (b"}" + nested_tuple(50) + b"K\x01s", "must be texts or integers, got tuple"),
        (b"}(" + nested_tuple(50) + b"K\x01u", "must be texts or integers, got tuple"),
        (called(named("collections", "OrderedDict"), b"]" + nested_tuple(50) + b"K\x01\x86a"), "wrong operands"),
        (b"\x8f", "must not use EMPTY_SET"),
        (b"]K\x01K\x02s", "what is not a dictionary"),
        (b"}" + text("a") + b"u", "lacks a mark"),
        (b"K\x01r\xff\xff\xff\xffj\xfe\xff\xff\xff", "names 4294967294, which is not there"),
        (b"}K\x01a", "must have a list where there is a dict"),
        (b"", "too few or wrong operands"),
        (b"]" * MAX_PICKLED, "must be at most 5,000,000 bytes long"),
    ],
)  # fmt: skip
def test_what_is_not_stored_byte_by_byte_is_not_made(tmp_path: Path, value: bytes, reason: str) -> None:
    file = write(tmp_path / "x.ckpt", value)
    with pytest.raises(ValueError, match=reason):
        load_plain(file)
    with pytest.raises(ValueError, match=r"^the checkpoint .*x\.ckpt holds code, which is never run, or is damaged$"):
        load_checkpoint(file)


def test_what_stands_in_a_file_once_is_not_read_many_times(tmp_path: Path) -> None:
    file = write(tmp_path / "x.ckpt", b"}")
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr("archive/data/1", bytes(100_000))
        archive.filelist += archive.filelist[-1:] * 100
    with pytest.raises(ValueError, match="is damaged: it cannot be read"):
        load_checkpoint(file)


def test_an_object_of_a_class_is_not_made(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> Any:
            return open, (str(tmp_path / "sprung"), "w")

    with pytest.raises(ValueError, match="must not name"):
        load_plain(write(tmp_path / "x.ckpt", pickle.dumps(Trap(), protocol=2)[2:-1]))
    assert not (tmp_path / "sprung").exists()

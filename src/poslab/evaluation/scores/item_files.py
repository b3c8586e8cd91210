"""Files of item scores, which somebody else may have written. Dimension letter: N items."""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from poslab.data.run_data import HELD_OUT
from poslab.evaluation.scores.items import ItemScores, MeasuredRun
from poslab.io.files import read_bytes, replacing

VERSION = 1
"""Number of the format, and of the way in which runs are measured; scores of another one are not read."""

MAX_BYTES = 500_000_000
"""Most bytes of a file; 10 metrics of 10,000 items at 10 lengths need 16,000,000."""
MAX_HEADER = 10_000_000
MAX_ENTRIES = 10_000
MAX_LENGTH = 2**40
METRIC = re.compile(r"[a-z][a-z0-9_]{0,59}")
MAX_TEXT_LENGTH = 100_000
DTYPES: dict[str, np.dtype[Any]] = {
    "header": np.dtype(np.uint8),
    "sums": np.dtype(np.float64),
    "counts": np.dtype(np.int64),
}
"""The arrays of a file: its header (JSON), and the sums and counts of all entries of the header, one after another."""


def write_measured(measured: MeasuredRun, path: Path) -> None:
    """Write the scores of a run to a file (`.npz`), which is whole or absent."""
    scores = list(measured.scores.values())
    header = {
        "version": VERSION,
        "encoding": measured.encoding,
        "split": measured.split,
        "checkpoint": measured.checkpoint,
        "scores": [
            {"metric": one.metric, "length": one.length, "items": len(one.sums), "identity": one.identity}
            for one in scores
        ],
        "values": [{"metric": metric, "length": at, "value": value} for (metric, at), value in measured.values.items()],
    }
    sums = np.concatenate([np.zeros(0), *(one.sums for one in scores)])
    counts = np.concatenate([np.zeros(0, np.int64), *(one.counts for one in scores)])
    with replacing(path) as file:
        np.savez(file, header=np.frombuffer(json.dumps(header).encode(), np.uint8), sums=sums, counts=counts)


def read_measured(path: Path) -> MeasuredRun:
    """Read the scores of a run from a file.

    It needs no more memory than the file has bytes, some times over, and nothing in it is run.

    Raises:
        ValueError: naming the file, if it cannot be read, is damaged, or holds something else or another version.
    """
    content = read_bytes(path, MAX_BYTES)
    try:
        return _measured(**_arrays(content))
    except Exception as error:  # a file that is not one of ours may raise anything
        raise ValueError(f"{path} is damaged: it does not hold the scores of a run") from error


def _arrays(content: bytes) -> dict[str, np.ndarray]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        entries = archive.infolist()
        _require(sorted(entry.filename for entry in entries) == sorted(f"{name}.npy" for name in DTYPES))
        # numpy compresses nothing here: what is compressed, or stored for many, could stand for terabytes.
        _require(all(entry.compress_type == zipfile.ZIP_STORED for entry in entries))
        _require(sum(entry.file_size for entry in entries) <= len(content))
        return {name: _array(archive.read(f"{name}.npy"), dtype) for name, dtype in DTYPES.items()}


def _array(content: bytes, dtype: np.dtype[Any]) -> np.ndarray:
    """Return a vector in numpy's format, whose header must count as many elements as there are bytes."""
    file = io.BytesIO(content)
    _require(np.lib.format.read_magic(file) == (1, 0))
    shape, _, found = np.lib.format.read_array_header_1_0(file)
    rest = content[file.tell() :]
    _require(found == dtype and shape == (len(rest) / dtype.itemsize,))
    return np.frombuffer(rest, dtype)


def _measured(header: np.ndarray, sums: np.ndarray, counts: np.ndarray) -> MeasuredRun:
    _require(len(header) <= MAX_HEADER and len(sums) == len(counts) and (counts >= 0).all())
    facts = json.loads(header.tobytes())
    encoding, split, checkpoint = (facts[name] for name in ("encoding", "split", "checkpoint"))
    scores, values = facts["scores"], facts["values"]
    _require(facts["version"] == VERSION and _is_text(encoding) and split in HELD_OUT and _is_text(checkpoint))
    _require(len(scores) + len(values) <= MAX_ENTRIES)
    found, start = {}, 0
    for (metric, length), entry in _named(scores):
        number, identity = entry["items"], entry["identity"]
        _require(type(number) is int and 0 < number <= len(sums) - start and _is_text(identity))
        own = slice(start, start := start + number)
        _require(counts[own].any())
        found[metric, length] = ItemScores(metric, length, sums[own], counts[own], identity)
    _require(start == len(sums))
    alone = {key: entry["value"] for key, entry in _named(values)}
    _require(all(type(value) in (int, float) for value in alone.values()))
    _require(len(found) == len(scores) and len(alone) == len(values))
    return MeasuredRun(encoding, split, found, {key: float(value) for key, value in alone.items()}, checkpoint)


def _named(entries: list[dict[str, Any]]) -> Iterator[tuple[tuple[str, int | None], dict[str, Any]]]:
    """Yield metric and length of each entry, and the entry."""
    for entry in entries:
        metric, length = entry["metric"], entry["length"]
        _require(isinstance(metric, str) and METRIC.fullmatch(metric) is not None)
        _require(length is None or (type(length) is int and 0 < length <= MAX_LENGTH))
        yield (metric, length), entry


def _is_text(value: Any) -> bool:
    """Return True for a text without control characters, which a terminal would obey."""
    return isinstance(value, str) and len(value) <= MAX_TEXT_LENGTH and value.isprintable()


def _require(holds: object) -> None:
    if not holds:
        raise ValueError

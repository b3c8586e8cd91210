"""Scores of test items, by which runs are compared on the same items, and the file in a run directory that keeps them.

An item is an example, a window of text, or a document or piece of one (`sampled_units`). Dimension letter: N items.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from poslab.data.source import HELD_OUT
from poslab.io.files import read_bytes, replacing

VERSION = 2  # number of the format, and of the way in which runs are measured; scores of another one are not read

MAX_BYTES, MAX_ROWS, MAX_LENGTH = 500_000_000, 20_000_000, 2**40
"""Most bytes and items of a file, and the longest length; 10 metrics of 10,000 items at 10 lengths are 1,000,000."""

METRIC = re.compile(r"[a-z][a-z0-9_]{0,59}")
MAX_TEXT_LENGTH = 100_000

COLUMNS = pa.schema(
    {"metric": pa.string(), "length": pa.int64(), "identity": pa.string(), "sum": pa.float64(), "count": pa.int64()}
)
"""Columns of the scores of one run, a row for each item; its metadata contain all else, as JSON."""


@dataclass(frozen=True, eq=False)
class ItemScores:
    """The scores of a metric on all items of a split, or on the items of one length.

    value = sum(sums) / sum(counts)
    """

    # its name, as in metrics.json; `sliding_bits_per_byte` and `context_gain` are of sliding windows
    metric: str
    length: int | None  # of the items, or of the windows in which they are read; None is the whole split
    # (N,) float64, sum of the metric over the tokens or answers of each item, in the unit of metrics.json
    sums: np.ndarray
    # (N,) int64, number of these; 0 for an item that does not count, as where the model has no positions
    counts: np.ndarray
    identity: str  # equal for runs whose items are the same

    @property
    def value(self) -> float:
        """The metric over all items, in the unit of metrics.json."""
        return float(self.sums.sum() / self.counts.sum())

    @property
    def linearised(self) -> np.ndarray:
        """Scores of the items whose mean is the value, (N,) float64.

            score_i = R + (s_i - R c_i) / mean(c),    R = sum(s) / sum(c)

        Their spread is the spread of the ratio R to first order. Where each item counts once, they are the sums
        themselves. An item that does not count has the score R.

        Source: Cochran, "Sampling Techniques" (1977), section 6.4.
        """
        return self.value + (self.sums - self.value * self.counts) / self.counts.mean()


@dataclass(frozen=True, eq=False)
class MeasuredRun:
    """The scores of a run on the items of a split."""

    encoding: str  # of the run, in words
    split: str  # `test` or `validation`
    # by metric and length; missing where the model has positions for no item
    scores: Mapping[tuple[str, int | None], ItemScores]
    # of the metrics of a corpus that are not means over its items (BLEU, macro F1, perplexity ...), by metric and
    # length
    values: Mapping[tuple[str, int | None], float]
    checkpoint: str = ""  # SHA-256 of the checkpoint that was measured

    @property
    def lengths(self) -> set[int | None]:
        """The lengths that have scores."""
        return {length for _, length in (*self.scores, *self.values)}

    def at(self, length: int | None) -> dict[str, ItemScores]:
        """Return the scores of items at a length, by metric."""
        return {metric: scores for (metric, at), scores in self.scores.items() if at == length}

    def joined(self, other: MeasuredRun) -> MeasuredRun:
        """Return its scores with another measurement's scores of the same run, which replace equal ones."""
        return replace(self, scores={**self.scores, **other.scores}, values={**self.values, **other.values})


def shared_items(scores: Sequence[ItemScores]) -> list[ItemScores]:
    """Return the scores of several runs on the items that count in all of them.

    ValueError if their items, metric or length differ.
    """
    for name in ("metric", "length", "identity"):
        if len(values := {getattr(of_run, name) for of_run in scores}) > 1:
            first, second, *_ = sorted(map(str, values))
            raise ValueError(f"scores must be of the same items to be paired, and have {name} {first} and {second}")
    shared = np.all([of_run.counts > 0 for of_run in scores], axis=0)
    return [replace(of_run, sums=of_run.sums[shared], counts=of_run.counts[shared]) for of_run in scores]


def item_table(scores: Iterable[ItemScores], constants: Mapping[str, str | int] = MappingProxyType({})) -> pa.Table:
    """Return the rows of `COLUMNS`, behind columns of constants such as a seed."""
    schema = pa.schema([*pa.table({name: [value] for name, value in constants.items()}).schema, *COLUMNS])
    tables = [schema.empty_table()]
    for of_metric in scores:
        values = (*constants.values(), of_metric.metric, of_metric.length, of_metric.identity)
        number = len(of_metric.sums)
        arrays = [pa.repeat(pa.scalar(x, kind), number) for x, kind in zip(values, schema.types, strict=False)]
        tables.append(pa.table([*arrays, of_metric.sums, of_metric.counts.astype(np.int64)], schema=schema))
    return pa.concat_tables(tables)


def write_measured(measured: MeasuredRun, path: Path) -> None:
    """Write the scores of a run to a Parquet file, which is whole or absent."""
    facts = {
        "version": VERSION,
        "encoding": measured.encoding,
        "split": measured.split,
        "checkpoint": measured.checkpoint,
        "values": [[metric, length, value] for (metric, length), value in measured.values.items()],
    }
    table = item_table(measured.scores.values()).replace_schema_metadata({"poslab": json.dumps(facts)})
    with replacing(path) as file:
        pq.write_table(table, file, compression="zstd", write_page_checksum=True)


def read_measured(path: Path) -> MeasuredRun:
    """Read the scores of a run from a file, which someone else may have written.

    ValueError, naming the file, if it cannot be read, is damaged, or contains something else or another version.
    """
    content = read_bytes(path, MAX_BYTES)
    try:
        opened = partial(
            pq.ParquetFile, io.BytesIO(content), thrift_string_size_limit=2**24, page_checksum_verification=True
        )
        require_bounded(opened, 10 * MAX_BYTES)
        with opened() as file:
            facts = json.loads(file.schema_arrow.metadata[b"poslab"])
            require(file.schema_arrow.remove_metadata().equals(COLUMNS) and file.metadata.num_rows <= MAX_ROWS)
            rows = file.read().to_pandas(integer_object_nulls=True)
        encoding, split, checkpoint = (facts[name] for name in ("encoding", "split", "checkpoint"))
        require(facts["version"] == VERSION and split in HELD_OUT and are_texts(encoding, checkpoint))
        scores = {}
        for key, items in rows.groupby(["metric", "length"], sort=False, dropna=False):
            metric, length = _key(*key)
            (identity,) = set(items["identity"])
            sums, counts = items["sum"].to_numpy(np.float64), items["count"].to_numpy(np.int64)
            require(are_texts(identity) and (counts >= 0).all() and counts.any())
            scores[metric, length] = ItemScores(metric, length, sums, counts, identity)
        values = {_key(metric, length): value for metric, length, value in facts["values"]}
        require(all(type(value) in (int, float) for value in values.values()))
        return MeasuredRun(encoding, split, scores, {key: float(value) for key, value in values.items()}, checkpoint)
    except Exception as error:  # a file that is not Poslab's may raise anything
        raise ValueError(f"{path} is damaged: it does not contain the scores of a run") from error


def require_bounded(opened: Callable[..., pq.ParquetFile], most: int) -> None:
    """Raise ValueError if the columns of a Parquet file need more than `most` bytes of memory.

    The file has a value that repeats once, so that 10 kB can represent terabytes. Texts are first read as indices
    into a dictionary, without being repeated.

    Args:
        opened: opens the file with these arguments of `ParquetFile`.
        most: number of bytes.
    """
    with opened() as file:
        facts = file.metadata
        groups = [facts.row_group(index) for index in range(facts.num_row_groups)]
        chunks = [group.column(index) for group in groups for index in range(group.num_columns)]
    size = sum(8 * chunk.num_values for chunk in chunks)
    require(size <= most and all(chunk.physical_type != "FIXED_LEN_BYTE_ARRAY" for chunk in chunks))
    texts = sorted({chunk.path_in_schema for chunk in chunks if chunk.physical_type == "BYTE_ARRAY"})
    with opened(read_dictionary=texts) as file:
        columns = file.read(columns=texts).itercolumns()
    for part in (part for column in columns for part in column.chunks):
        while pa.types.is_list(part.type):
            part = part.flatten()
        require(pa.types.is_dictionary(part.type))
        size += pc.sum(pc.binary_length(part.dictionary).take(part.indices)).as_py() or 0
        require(size <= most)


def _key(metric: Any, length: Any) -> tuple[str, int | None]:
    """Return a metric and its length, checked."""
    length = None if length is None or length != length else int(length)
    require(isinstance(metric, str) and METRIC.fullmatch(metric) and (length is None or 0 < length <= MAX_LENGTH))
    return metric, length


def are_texts(*values: Any) -> bool:
    """Return True for texts without control characters, which a terminal would obey."""
    return all(isinstance(text, str) and len(text) <= MAX_TEXT_LENGTH and text.isprintable() for text in values)


def require(holds: object) -> None:
    """Raise ValueError, without a sentence, unless a condition of a file is met."""
    if not holds:
        raise ValueError

"""Results of many runs as three tables: `runs.parquet`, `curves.parquet` and `items.parquet` in one folder.

A row of runs is one run, a row of curves one metric at one step, and a row of items the score of one test item. A
file comes perhaps from someone else: it is checked, bounded in size, and nothing in it is run.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cache, partial
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from poslab.arguments import Count, Range, with_checked_arguments
from poslab.evaluation.scores.items import (
    COLUMNS,
    ItemScores,
    MeasuredRun,
    are_texts,
    item_table,
    require,
    require_bounded,
)
from poslab.experiments.comparison import NAME
from poslab.io.files import replacing

RUNS, CURVES, ITEMS = "runs.parquet", "curves.parquet", "items.parquet"

MAX_BYTES = 500_000_000
"""Most bytes of a file, and of the columns of runs in memory; columns of items need at most ten times as many."""
MAX_ROWS = 50_000_000
MAX_COLUMNS = 5_000

Status = Literal["finished", "diverged", "failed", "blocked"]

_KEY = {"case": pa.string(), "encoding": pa.string(), "seed": pa.int64()}
_PREFIXES = {"test/": "scores", "reading/": "reading"}  # beginnings of the columns of two groups of numbers
_OF_CURVES = pa.schema({**_KEY, "step": pa.int64(), "metric": pa.string(), "value": pa.float64()})
_OF_ITEMS = pa.schema([*pa.schema(_KEY), *COLUMNS])

RunKey = tuple[str, str, int]  # case, encoding and seed


@with_checked_arguments
@dataclass(frozen=True)
class RunResult:
    """A row of runs."""

    # case, encoding, seed: of the run
    case: str
    encoding: str
    seed: Annotated[int, Range(at_least=0)]
    is_trial: bool = False  # True for a run of a tuning, which is never a result
    # `finished`, `diverged`, `failed`, or `blocked` where the run that it starts from diverged or failed
    status: Status = "finished"
    reason: str = ""  # why it diverged or failed
    point: Mapping[str, Any] = field(default_factory=dict)  # values of tuned keys
    words: Sequence[str] = ()  # the command line that composes it
    commit: str = ""  # of the code that trained it
    machine: str = ""  # processor and threads, or GPUs
    task: str = ""  # name of the class of its task
    # aggregate_lengths, open_ended: as of `Task`
    aggregate_lengths: bool = False
    open_ended: Sequence[str] = ()
    length_unit: str = "number of tokens"  # what the lengths of the test count, such as `number of tokens`
    training_length: Count = 1  # the longest training length
    lengths: Sequence[Count] = ()  # of the test
    # batch, weights: hashes of the first batch, and of the first weights outside the encoding
    batch: str | None = None
    weights: str | None = None
    # split, newest_split: version of the split of its data, and the newest version when the table was written
    split: str = "1"
    newest_split: str = "1"
    directory: str = ""  # of the run, where it is still there; in the table, relative to the table's folder
    identity: str = ""  # of its cell, by which a comparison goes on from its tables; older tables have none
    # by tag, as in metrics.json; metrics of the test at the end of the run are not in a table
    metrics: Mapping[str, Any] = field(default_factory=dict)
    scores: Mapping[str, Any] = field(default_factory=dict)  # of the test by tag, such as `bits_per_byte@1024`
    # speed and memory of reading test items, such as `tokens_per_second@1024`
    reading: Mapping[str, Any] = field(default_factory=dict)
    reading_machine: str = ""  # on which these were measured

    @property
    def key(self) -> RunKey:
        return self.case, self.encoding, self.seed

    @property
    def diverged(self) -> bool:
        """True if its loss was no longer a number."""
        return self.status == "diverged"

    @property
    def label(self) -> str:
        """The run in a few words: `addition: t5, seed 2` or `addition: t5, lr=0.001, seed 1000`."""
        point = [f"{key.rpartition('.')[2]}={value}" for key, value in self.point.items()] if self.is_trial else []
        return f"{self.case}: {', '.join([self.encoding, *point, f'seed {self.seed}'])}"


_NUMBERS = ("metrics", "scores", "reading")  # groups of numbers, each of which has a column
_TYPES = {
    **dict.fromkeys(("str", "str | None", "Status", "Mapping[str, Any]"), pa.string()),
    **dict.fromkeys(("Count", "Annotated[int, Range(at_least=0)]"), pa.int64()),
    **{"bool": pa.bool_(), "Sequence[str]": pa.list_(pa.string()), "Sequence[Count]": pa.list_(pa.int64())},
}
_OF_RUNS = {field.name: _TYPES[str(field.type)] for field in fields(RunResult) if field.name not in _NUMBERS}
"""Columns of runs; columns of numbers are metrics, `test/` scores and `reading/` speeds, and others are not read."""


def write_runs(folder: Path, runs: Sequence[RunResult]) -> None:
    """Write runs.parquet, without what is no number of the comparison, such as the test at the end of a run."""
    columns: dict[str, pa.Array] = {}
    for name, kind in _OF_RUNS.items():
        values = [getattr(run, name) for run in runs]
        if name == "directory":  # no path of this machine goes into a table
            values = [path and os.path.relpath(path, folder) for path in values]
        columns[name] = pa.array([json.dumps(value) for value in values] if name == "point" else values, kind)
    for prefix, attribute in {"": "metrics", **_PREFIXES}.items():
        nodes = [getattr(run, attribute) for run in runs]
        tags = dict.fromkeys(tag for node in nodes for tag in node)
        if not prefix:  # a run's own test is another than the comparison's
            tags = {t: None for t in tags if t not in _OF_RUNS and not t.startswith(tuple(_PREFIXES)) and are_texts(t)}
        for tag in tags:
            values = [None if (value := node.get(tag)) is None else float(value) for node in nodes]
            columns[prefix + tag] = pa.array(values, pa.float64())
    _write(folder / RUNS, pa.table(columns))


def write_curves(folder: Path, curves: Mapping[RunKey, Sequence[tuple[int, str, float]]]) -> None:
    """Write curves.parquet: step, metric and value of each run."""
    rows = [(*key, *row) for key, curve in curves.items() for row in curve]
    columns = zip(*rows, strict=True) if rows else [()] * len(_OF_CURVES)
    arrays = [pa.array(column, kind) for column, kind in zip(columns, _OF_CURVES.types, strict=True)]
    _write(folder / CURVES, pa.table(arrays, schema=_OF_CURVES))


def write_items(folder: Path, measured: Mapping[RunKey, MeasuredRun]) -> None:
    parts = [_OF_ITEMS.empty_table()]
    for key, run in measured.items():
        parts.append(item_table(run.scores.values(), dict(zip(_KEY, key, strict=True))))
    _write(folder / ITEMS, pa.concat_tables(parts))


def read_runs(folder: Path) -> list[RunResult]:
    """Read runs.parquet; ValueError naming the file, if it cannot be read, is damaged, or contains something else."""
    table = _read(folder / RUNS)
    if "identity" not in table.column_names:
        table = table.append_column("identity", pa.array([""] * len(table), pa.string()))
    try:
        for name, kind in _OF_RUNS.items():
            require(table.schema.field(name).type == kind)
        numbers = [column.name for column in table.schema if pa.types.is_float64(column.type)]
        require(are_texts(*numbers))
        runs = [_run({name: row[name] for name in _OF_RUNS}, row, numbers, folder) for row in table.to_pylist()]
        require(len({run.key for run in runs if not run.is_trial}) == sum(not run.is_trial for run in runs))
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"{folder / RUNS} is damaged: it does not contain a table of runs") from error
    return runs


def read_curves(folder: Path) -> dict[RunKey, list[tuple[int, str, float]]]:
    """Read curves.parquet: step, metric and value of each run; ValueError as of `read_runs`."""
    curves: dict[RunKey, list[tuple[int, str, float]]] = {}
    for row in zip(*(column.to_pylist() for column in _read(folder / CURVES, _OF_CURVES).columns), strict=True):
        curves.setdefault(row[:3], []).append(row[3:])
    return curves


class ItemTable:
    """The scores of test items in items.parquet, by run.

    ValueError, naming the file, if it cannot be read, is damaged, or contains something else.
    """

    def __init__(self, folder: Path) -> None:
        self._table = _read(folder / ITEMS, _OF_ITEMS)
        self._path = folder / ITEMS
        self._slices = self._runs()
        self.of = cache(self._of)

    def _runs(self) -> dict[RunKey, dict[tuple[str, int | None, str], slice]]:
        """Return the rows of each metric and length by run."""
        names = _OF_ITEMS.names[:6]
        if not len(self._table):
            return {}
        changes = np.zeros(len(self._table), bool)
        changes[0] = True
        for name in names:
            codes = pc.fill_null(pc.dictionary_encode(self._table[name]).combine_chunks().indices, -1).to_numpy()
            changes[1:] |= codes[1:] != codes[:-1]
        starts = np.flatnonzero(changes)
        heads = self._table.select(names).take(starts).to_pylist()
        slices: dict[RunKey, dict[tuple[str, int | None, str], slice]] = {}
        for head, start, end in zip(heads, starts, [*starts[1:], len(self._table)], strict=True):
            case, encoding, seed, *of_scores = head.values()
            slices.setdefault((case, encoding, seed), {})[tuple(of_scores)] = slice(start, end)
        return slices

    def _of(self, key: RunKey) -> MeasuredRun | None:
        """Return the scores of a run; None where it has none."""
        if key not in self._slices:
            return None
        scores = {}
        for (metric, length, identity), rows in self._slices[key].items():
            part = self._table.slice(rows.start, rows.stop - rows.start)
            sums, counts = part["sum"].to_numpy(), part["count"].to_numpy()
            if (counts < 0).any() or not counts.any():
                raise ValueError(f"{self._path} is damaged: it does not contain scores of test items")
            scores[metric, length] = ItemScores(metric, length, sums, counts, identity)
        return MeasuredRun(key[1], "test", scores, {})


def _run(facts: dict[str, Any], row: Mapping[str, Any], numbers: Sequence[str], folder: Path) -> RunResult:
    facts["point"] = json.loads(facts["point"])
    facts["directory"] = facts["directory"] and os.path.normpath(folder / facts["directory"])
    for prefix, group in _PREFIXES.items():
        of_group = {name.removeprefix(prefix): row[name] for name in numbers if name.startswith(prefix)}
        facts[group] = {tag: value for tag, value in of_group.items() if value is not None}
    others = {name: row[name] for name in numbers if not name.startswith(tuple(_PREFIXES))}
    run = RunResult(**facts, metrics={tag: value for tag, value in others.items() if value is not None})
    texts = [value for value in facts.values() if isinstance(value, str)]
    require(are_texts(*texts, *run.words, *run.open_ended))
    require(all(re.fullmatch(NAME, name) for name in (run.case, run.encoding)))
    return run


def _write(path: Path, table: pa.Table) -> None:
    """Write a table that is whole or absent, in large pages, in which compression finds what repeats."""
    texts = [column.name for column in table.schema if not pa.types.is_float64(column.type)]
    with replacing(path) as file:
        pq.write_table(
            table,
            file,
            compression="zstd",
            compression_level=19,
            data_page_size=2**26,
            row_group_size=2**22,
            use_dictionary=texts,
            dictionary_pagesize_limit=2**24,
            use_byte_stream_split=table.num_rows > 0
            and [column.name for column in table.schema if pa.types.is_float64(column.type)],
        )


def _read(path: Path, schema: pa.Schema | None = None) -> pa.Table:
    """Read a file of bounded size, with this schema if one is given."""
    try:
        require(path.stat().st_size <= MAX_BYTES)
        opened = partial(pq.ParquetFile, path, thrift_string_size_limit=2**24, thrift_container_size_limit=2**20)
        require_bounded(opened, MAX_BYTES if schema is None else 10 * MAX_BYTES)
        with opened() as file:
            require(file.metadata.num_rows <= MAX_ROWS and file.metadata.num_columns <= MAX_COLUMNS)
            require(schema is None or file.schema_arrow.remove_metadata().equals(schema))
            table = file.read()
        for name in table.column_names if schema is not None else ():
            require(name == "length" or not table[name].null_count)
    except FileNotFoundError as error:
        raise ValueError(f"{path} is missing") from error
    except (OSError, ValueError, pa.ArrowException) as error:
        raise ValueError(f"{path} is damaged, or is not a table of results") from error
    return table

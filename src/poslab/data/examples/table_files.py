"""Rows of a user's own CSV, TSV, JSON, JSON lines and Parquet files, with every mistake told by its file and line.

`load_dataset` is not used here: it guesses types (a class `1` becomes `1.0` where another cell is empty), keeps copies
of the files, and what it raises does not name the line.
"""

import csv
import io
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

SUFFIXES = (".csv", ".tsv", ".jsonl", ".json", ".parquet")
# The library stops at cells of 131,072 characters, and an article may be longer.
LONGEST_CELL = 2**31 - 1


class Row(NamedTuple):
    """A row.

    Args:
        values: by column.
        place: where it stands, for messages: `'reviews.csv' line 3`.
        document: what it belongs to, where the file says so without a column.
    """

    values: dict[str, Any]
    place: str
    document: str | None = None


class Table(NamedTuple):
    """The columns of a file in order, and its rows. In a row of JSON, a column may be missing."""

    columns: list[str]
    rows: list[Row]


def read_table(argument: str, path: Path, delimiter: str | None = None, columns: Sequence[str] = ()) -> Table:
    """The rows of a file, in order.

    Args:
        argument: name of the argument that names the file, for messages.
        path: a file whose suffix is one of `SUFFIXES`.
        delimiter: what parts cells, in place of the comma of CSV and the tab of TSV.
        columns: those that are needed; of Parquet, no others are read.

    Raises:
        ValueError: one sentence that begins with `argument`, if the file is not of its format.
    """
    suffix = path.suffix.lower()
    try:
        if suffix == ".parquet":
            return _read_parquet(argument, path, columns)
        if suffix in (".csv", ".tsv"):
            return _read_cells(argument, path, delimiter or {".csv": ",", ".tsv": "\t"}[suffix])
        rows = _read_objects(argument, path)
    except UnicodeDecodeError as error:
        raise ValueError(f"{argument} must be UTF-8 text, but {str(path)!r} is not at byte {error.start}") from None
    return Table(list(dict.fromkeys(column for row in rows for column in row.values)), rows)


def _text(path: Path) -> str:
    # Excel begins UTF-8 with a mark that would be part of the first column's name.
    return path.read_bytes().decode("utf-8").removeprefix("\N{ZERO WIDTH NO-BREAK SPACE}")


def _read_cells(argument: str, path: Path, delimiter: str) -> Table:
    # In TSV, quotation marks are a part of the text.
    lines = io.StringIO(_text(path), newline="")
    if delimiter == "\t":
        reader = csv.reader(lines, delimiter=delimiter, quoting=csv.QUOTE_NONE, strict=True)
    else:
        reader = csv.reader(lines, delimiter=delimiter, strict=True)
    rows = []
    try:
        with _long_cells():
            header = next(reader, [])
            for cells in reader:
                place = f"{str(path)!r} line {reader.line_num}"
                if cells and len(cells) != len(header):
                    raise ValueError(
                        f"{argument} must have as many cells in a row as in the header, {len(header)}, but {place}"
                        f" has {len(cells)}"
                    )
                if cells:
                    rows.append(Row(dict(zip(header, cells, strict=True)), place))
    except csv.Error as error:
        message = f"{argument} must hold CSV, but {str(path)!r} is not at line {reader.line_num}: {error}"
        raise ValueError(message) from error
    return Table(header, rows)


@contextmanager
def _long_cells() -> Iterator[None]:
    before = csv.field_size_limit(LONGEST_CELL)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def _read_objects(argument: str, path: Path) -> list[Row]:
    text = _text(path)
    if path.suffix.lower() == ".json":
        try:
            content = json.loads(text)
        except json.JSONDecodeError as error:
            # Many a file of JSON lines is called .json.
            if not error.msg.startswith("Extra data"):
                where = f"at line {error.lineno} column {error.colno}: {error.msg}"
                raise ValueError(f"{argument} must hold JSON, but {str(path)!r} does not {where}") from error
        else:
            # SQuAD has its articles under `data`, as has much else.
            articles = content.get("data", [content]) if isinstance(content, dict) else content
            return [
                Row(_object(argument, value, place), place)
                for number, value in enumerate(articles if isinstance(articles, list) else [articles], start=1)
                for place in [f"{str(path)!r} row {number}"]
            ]
    rows = []
    for number, line in enumerate(text.split("\n"), start=1):
        place = f"{str(path)!r} line {number}"
        if line.strip():
            try:
                value = json.loads(line)
            except json.JSONDecodeError as error:
                raise ValueError(f"{argument} must hold JSON, but {place} does not: {error.msg}") from error
            rows.append(Row(_object(argument, value, place), place))
    return rows


def _object(argument: str, value: Any, place: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{argument} must hold an object in every row, but {place} is {json.dumps(value)[:40]}")
    return value


def _read_parquet(argument: str, path: Path, columns: Sequence[str]) -> Table:
    import pyarrow
    from pyarrow import parquet

    try:
        names = parquet.read_schema(path).names
        values = parquet.read_table(path, columns=[name for name in names if name in columns]).to_pylist()
    except pyarrow.ArrowInvalid as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{argument} must hold Parquet, but {str(path)!r} does not: {reason}") from error
    return Table(names, [Row(row, f"{str(path)!r} row {number}") for number, row in enumerate(values, start=1)])

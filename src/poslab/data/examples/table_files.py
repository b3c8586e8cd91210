"""Rows of a user's own CSV, TSV, JSON, JSON lines and Parquet files; every error names the file and the line.

`load_dataset` is not used here: it guesses types (a class `1` becomes `1.0` where another cell is empty), keeps copies
of the files, and what it raises does not name the line.
"""

import csv
import io
import json
import math
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, NamedTuple

from poslab.data.examples.cells import text_in
from poslab.data.memory import available_memory, require_memory
from poslab.data.paths import files_of_classes, matching_files, require_content, require_plain_name

SUFFIXES = (".csv", ".tsv", ".jsonl", ".json", ".parquet")
# The library stops at cells of 131,072 characters, and an article may be longer.
MAX_CELL_LENGTH = 2**31 - 1
_ROWS_AT_ONCE = 256


class Row(NamedTuple):
    """A row of a file.

    Args:
        values: by column.
        place: for messages: `'reviews.csv' line 3`.
        document: its document, where the file has documents without a column.
    """

    values: dict[str, Any]
    place: str
    document: str | None = None


class Table(NamedTuple):
    """The columns of a file in order, and its rows. In a row of JSON, a column may be missing."""

    columns: list[str]
    rows: list[Row]


def read_table(argument: str, path: Path, delimiter: str | None = None, columns: Sequence[str] = ()) -> Table:
    """Return the rows of a file, in order.

    Args:
        argument: name of the argument that names the file, for messages.
        path: a file whose suffix is one of `SUFFIXES`.
        delimiter: separates cells, in place of the comma of CSV and the tab of TSV.
        columns: those that are needed, each of which the file must have once; no others of Parquet are read.

    Raises:
        ValueError: one sentence that begins with `argument`, if the file is not of its format.
    """
    suffix = path.suffix.lower()
    require_memory(argument, path, path.stat().st_size, available_memory())
    try:
        if suffix == ".parquet":
            return _read_parquet(argument, path, columns)
        if suffix in (".csv", ".tsv"):
            return _read_cells(argument, path, delimiter or {".csv": ",", ".tsv": "\t"}[suffix], columns)
        rows = _read_objects(argument, path)
    except UnicodeDecodeError as error:
        raise ValueError(f"{argument} must be UTF-8 text, but {str(path)!r} is not at byte {error.start}") from None
    return Table(list(dict.fromkeys(column for row in rows for column in row.values)), rows)


def labelled_files(argument: str, path: str, suffixes: Sequence[str], content: str) -> list[tuple[Path, str]]:
    """Return the files that a table or a folder holds, each with its class.

    A table has the columns `file`, a path that starts at the folder of the table, and `label`; a folder has one for
    each class.

    Args:
        argument, suffixes, content: as of `files_of_classes`.
        path: of the table or the folder, as a user types it.

    Raises:
        ValueError: one sentence that begins with `argument`, or the column and the line, for fewer than two classes, or
            a file that is not there or has another suffix; others as of `read_table` and `files_of_classes`.
    """
    if Path(path).suffix.lower() not in SUFFIXES or os.path.isdir(os.path.expanduser(path)):
        return [(file, file.parent.name) for file in files_of_classes(argument, path, suffixes, content)]
    source, *_ = matching_files(argument, path)
    require_content(argument, source, "files with their classes")
    table = read_table(argument, source, columns=("file", "label"))
    if not {"file", "label"} <= set(table.columns):
        raise ValueError(f"{argument} must have the columns file and label, but {str(source)!r} has not both")
    files = []
    for row in table.rows:
        file = source.parent / Path(text_in(row.values, "file", "file", row.place)).expanduser()
        label = text_in(row.values, "label", "label", row.place).strip()
        require_plain_name(argument, label)
        is_there = os.path.isfile(file)  # that of a path raises OSError for a name that is too long
        if file.suffix.lower() not in suffixes or not is_there:
            what = "of another kind" if is_there else "which is not there"
            raise ValueError(
                f"{argument} must name {content} ({', '.join(suffixes)}), but {row.place} names "
                f"{str(file)[:300]!r}, {what}"
            )
        files.append((file, label))
    if len({label for _, label in files}) < 2:
        raise ValueError(f"{argument} must have at least two classes, but {str(source)!r} has fewer")
    return files


def _text(path: Path) -> str:
    # Excel begins UTF-8 with a mark that would be part of the first column's name.
    return path.read_bytes().decode("utf-8").removeprefix("\N{ZERO WIDTH NO-BREAK SPACE}")


def _require_once(argument: str, path: Path, columns: Sequence[str], names: list[str]) -> None:
    for column in columns:
        if names.count(column) > 1:
            raise ValueError(
                f"{argument} must have one column {column!r}, but {str(path)!r} has {names.count(column)} of this name"
            )


def _read_cells(argument: str, path: Path, delimiter: str, columns: Sequence[str]) -> Table:
    # In TSV, quotation marks are a part of the text.
    quoting: Literal[0, 3] = csv.QUOTE_NONE if delimiter == "\t" else csv.QUOTE_MINIMAL
    reader = csv.reader(io.StringIO(_text(path), newline=""), delimiter=delimiter, quoting=quoting, strict=True)
    rows = []
    try:
        with _long_cells():
            header = next(reader, [])
            _require_once(argument, path, columns, header)
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
    before = csv.field_size_limit(MAX_CELL_LENGTH)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def _read_objects(argument: str, path: Path) -> list[Row]:
    text = _text(path)
    if path.suffix.lower() == ".json":
        try:
            content = _value(text)
        except json.JSONDecodeError as error:
            # Many a file of JSON lines is called .json.
            if not error.msg.startswith("Extra data"):
                where = f"at line {error.lineno} column {error.colno}: {error.msg}"
                raise ValueError(f"{argument} must hold JSON, but {str(path)!r} does not {where}") from error
        except _UnreadableError as error:
            raise ValueError(f"{argument} must hold JSON, but {str(path)!r} {error}") from error
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
                value = _value(line)
            except json.JSONDecodeError as error:
                raise ValueError(f"{argument} must hold JSON, but {place} does not: {error.msg}") from error
            except _UnreadableError as error:
                raise ValueError(f"{argument} must hold JSON, but {place} {error}") from error
            rows.append(Row(_object(argument, value, place), place))
    return rows


class _UnreadableError(Exception):
    """JSON that Python would read as something else, or not at all; its message continues after the place."""


def _value(text: str) -> Any:
    try:
        value = json.loads(
            text, parse_int=_integer, parse_float=_float, parse_constant=_constant, object_pairs_hook=_fields
        )
    except RecursionError:
        raise _UnreadableError("is nested too deeply") from None
    if "\\u" in text:  # half of a pair of surrogates can only be written so
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError as error:
            half = error.object[error.start : error.start + 1]
            raise _UnreadableError(f"has half of a surrogate pair, {half!r}, which is not a character") from None
    return value


def _integer(digits: str) -> int:
    try:
        return int(digits)
    except ValueError:  # Python reads no more than 4,300
        raise _UnreadableError(f"has a number of {len(digits):,} digits") from None


def _float(digits: str) -> float:
    number = float(digits)
    if math.isinf(number):
        raise _UnreadableError(f"has the number {digits[:20]}, which is too large")
    return number


def _constant(name: str) -> float:
    if name != "NaN":  # which pandas writes for an empty cell
        raise _UnreadableError(f"has the number {name}")
    return math.nan


def _fields(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise _UnreadableError(f"has an object with two values of {twice!r}")
    return fields


def _object(argument: str, value: Any, place: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{argument} must hold an object in every row, but {place} is {json.dumps(value)[:40]}")
    return value


def _read_parquet(argument: str, path: Path, columns: Sequence[str]) -> Table:
    import pyarrow
    from pyarrow import parquet, types

    available = available_memory()
    held, rows = 0, list[Row]()
    try:
        file = parquet.ParquetFile(path)
        names = file.schema_arrow.names
        _require_once(argument, path, columns, names)
        # In parts, since a file may hold a thousand times as much text as it is long.
        for batch in file.iter_batches(_ROWS_AT_ONCE, columns=[name for name in names if name in columns]):
            for place, field in enumerate(batch.schema):
                column = batch[place]
                if types.is_dictionary(field.type):
                    column = column.dictionary_decode()
                if types.is_binary(column.type) or types.is_large_binary(column.type):  # as some programs write text
                    column = column.cast(pyarrow.large_string())
                batch = batch.set_column(place, field.name, column)
            held += batch.nbytes
            require_memory(argument, path, held, available)
            batch.validate(full=True)
            rows += [Row(row, f"{str(path)!r} row {len(rows) + n}") for n, row in enumerate(batch.to_pylist(), start=1)]
    except (pyarrow.ArrowException, OSError, OverflowError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{argument} must hold Parquet, but {str(path)!r} does not: {reason}") from error
    return Table(names, rows)

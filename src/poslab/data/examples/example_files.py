"""The base class of sources of a user's own example files."""

from abc import abstractmethod
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from poslab.arguments import nearest
from poslab.data.examples.cells import text_in
from poslab.data.examples.columns import Splits, as_examples
from poslab.data.examples.fingerprint import fingerprint
from poslab.data.examples.source import ExampleSource
from poslab.data.examples.table_files import SUFFIXES, Row, Table, read_table
from poslab.data.paths import files_of, patterns_of, require_content
from poslab.data.source import require_text

SPLITS = {"files": "train", "validation_files": "validation", "test_files": "test"}


class ExampleFiles(ExampleSource):
    """Examples in CSV, TSV, JSON, JSON lines or Parquet files, by their suffixes. They are read into memory.

    Args:
        files: paths or globs (`**` goes through folders), one or a list: .csv, .tsv (whose quotation marks are text),
            .json (a list of objects, or such a list under `data`), .jsonl, .parquet.
        validation_files, test_files: the same, held out whole; None: hold out a share of `files`.
        delimiter: separates the cells of a line, in place of the comma of .csv and the tab of .tsv.
        document: a column of documents, whose examples all come into one split; None: each stands alone.
        others: those of `ExampleSource`.
    """

    files: str | Sequence[str] | None = None
    validation_files: str | Sequence[str] | None = None
    test_files: str | Sequence[str] | None = None
    delimiter: str | None = None
    document: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self.patterns = {
            argument: patterns_of(argument, getattr(self, argument))
            for argument in SPLITS
            if argument == "files" or getattr(self, argument) is not None
        }
        if self.delimiter is not None and (not isinstance(self.delimiter, str) or len(self.delimiter) != 1):
            raise ValueError(f"delimiter must be a single character, got {self.delimiter!r}")
        if self.document is not None:
            require_text("document", self.document)
        for argument, column in self.columns.items():
            require_text(argument, column)

    @abstractmethod
    def from_rows(self, rows: list[Row], argument: str) -> dict[str, list[Any]]:
        """Return the columns of the source's kind that rows hold; `argument` names their files."""

    def as_rows(self, table: Table) -> Table:
        """Return the contents of a file as a table with `columns`, where it has another form."""
        return table

    def check(self) -> None:
        super().check()
        for argument, paths in self.paths.items():
            for path in paths:
                if path.suffix.lower() not in SUFFIXES:
                    raise ValueError(f"{argument} must end in {', '.join(SUFFIXES)}, got {str(path)!r}")
                require_content(argument, path, "examples")

    @cached_property
    def paths(self) -> dict[str, list[Path]]:
        """The files by the argument that names them, each once, in order of their paths."""
        return {argument: files_of(argument, patterns) for argument, patterns in self.patterns.items()}

    @cached_property
    def identity(self) -> str:
        suffixes = {argument: [path.suffix for path in paths] for argument, paths in self.paths.items()}
        settings = (self.kind.name, suffixes, self.delimiter, self.columns, self.document, *self.settings)
        return fingerprint([path for paths in self.paths.values() for path in paths], *settings)

    def examples(self) -> Splits:
        splits = {}
        for argument in self.paths:
            rows = self._rows(argument)
            columns = self.from_rows(rows, argument)
            if self.document is not None:
                columns["document"] = [text_in(row.values, "document", self.document, row.place) for row in rows]
            elif all(row.document is not None for row in rows):
                columns["document"] = [row.document for row in rows]
            splits[SPLITS[argument]] = as_examples(**columns)
        return splits

    def _rows(self, argument: str) -> list[Row]:
        columns = self.columns | ({"document": self.document} if self.document is not None else {})
        rows: list[Row] = []
        for path in self.paths[argument]:
            table = self.as_rows(read_table(argument, path, self.delimiter, list(columns.values())))
            if table.rows:
                _require_columns(table, columns, path)
            rows += table.rows
        if not rows:
            raise ValueError(f"{argument} must hold examples, but {str(self.paths[argument][0])!r} has no row")
        return rows


def _require_columns(table: Table, columns: dict[str, str], path: Path) -> None:
    for argument, column in columns.items():
        if column not in table.columns:
            there = f"the columns of {str(path)!r}, {', '.join(map(_short, table.columns))}"
            raise ValueError(f"{argument} must be one of {there}, got {column!r}{nearest(column, table.columns)}")


def _short(column: str) -> str:
    """Return the name of a column, or the beginning of whatever stands where a name should."""
    quoted = repr(column) if "," in column else column
    return quoted if len(column) <= 30 else f"{column[:30]!r}..."

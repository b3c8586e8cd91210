"""Examples in the rows of tables: a user's own files, and data sets of the Hugging Face Hub, both by `load_dataset`.

The types that `datasets` infers are checked: cells of CSV are always text, and a column of another type than its kind
has raises an error.
"""

import csv
import glob
from abc import abstractmethod
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from poslab.data.cache import fingerprint
from poslab.data.columns import HubColumns, NamedColumns, Splits, as_written, is_missing, renamed, require_distinct
from poslab.data.examples.source import ExampleSource
from poslab.data.hub import HubRows, is_remote
from poslab.data.source import require_choice
from poslab.io.files import files_of, patterns_of, require_content

if TYPE_CHECKING:
    from datasets import Dataset

FORMATS = {".csv": "csv", ".tsv": "csv", ".json": "json", ".jsonl": "json", ".parquet": "parquet"}
"""The format of `load_dataset` by the suffix of a file."""
TEXT_TYPES = ("string", "large_string", "int", "uint", "float", "bool")
FILES = {"files": "train", "validation_files": "validation", "test_files": "test"}
"""The split of the files that an argument names."""

Rewrite = Callable[[dict[str, Any], int], list[dict[str, Any]]]  # makes the examples of a row and its number from 0


class ExampleTable(NamedTuple):
    """Rows, in columns that have the names of arguments, of a file or a split; messages have its argument and name."""

    rows: "Dataset"
    argument: str
    name: str

    def row_name(self, index: int) -> str:
        """Return the name of a row, for messages."""
        return f"{self.name} row {index + 1}"


class TableExamples(ExampleSource, NamedColumns):
    """Examples in the rows of tables, in columns that arguments name."""

    optional: ClassVar[tuple[str, ...]] = ()  # the columns that may be empty

    leaves_out_gaps: ClassVar[bool] = False
    """True leaves out rows with an empty column, False raises an error that names the row."""

    @abstractmethod
    def tables(self) -> dict[str, list[ExampleTable]]:
        """Return the tables of each split."""

    @abstractmethod
    def converter(self, table: ExampleTable) -> tuple[Rewrite, dict[str, Any]]:
        """Return what makes the examples of a row, whose columns contain something, and the types of their columns."""

    def examples(self) -> Splits:
        from datasets import concatenate_datasets

        splits = {}
        for split, tables in self.tables().items():
            splits[split] = concatenate_datasets([self._converted(table) for table in tables])
            if not len(splits[split]):
                argument, name = tables[0].argument, tables[0].name
                columns = ", ".join(map(repr, self.columns.values()))
                raise ValueError(f"{argument} must contain examples, and {name} has no row with {columns}")
        return splits

    def _converted(self, table: ExampleTable) -> "Dataset":
        from datasets import Features, Value

        convert, types = self.converter(table)
        columns = {name: column for name, column in self.all_columns.items() if name in table.rows.column_names}
        texts = {*self.kind.texts, "document"}.intersection(columns)
        for argument in texts:
            # Other types, such as dates, are no text; a column of JSON may have values of several types.
            feature = table.rows.features[argument]
            dtype = str(getattr(feature, "dtype", ""))
            if not dtype.startswith(TEXT_TYPES) and type(feature).__name__ != "Json":
                raise ValueError(f"{argument} must contain text, and {columns[argument]!r} contains {feature}")
        if self.document is not None:
            types |= {"document": Value("string")}

        def rewrite(row: dict[str, Any], index: int) -> list[dict[str, Any]]:
            for argument, column in columns.items():
                value = row[argument]
                if is_missing(value) and argument not in self.optional:
                    if self.leaves_out_gaps:
                        return []
                    raise ValueError(
                        f"{argument} must be in every row, but {column!r} is empty in {table.row_name(index)}"
                    )
                if argument in texts:
                    if isinstance(value, list | dict):
                        raise ValueError(
                            f"{argument} must have text, but {column!r} in {table.row_name(index)} is {str(value)[:40]}"
                        )
                    row[argument] = as_written(value)
            document = {"document": row["document"]} if self.document is not None else {}
            return [example | document for example in convert(row, index)]

        def rewrite_batch(batch: dict[str, list[Any]], indices: list[int]) -> dict[str, list[Any]]:
            old = [dict(zip(batch, values, strict=True)) for values in zip(*batch.values(), strict=True)]
            new = [made for row, index in zip(old, indices, strict=True) for made in rewrite(row, index)]
            return {column: [row[column] for row in new] for column in types}

        settings = {
            "features": Features(types),
            "remove_columns": table.rows.column_names,
            "load_from_cache_file": False,
        }
        try:
            return table.rows.map(rewrite_batch, batched=True, with_indices=True, **settings)
        except UnicodeDecodeError as error:  # Arrow does not check that text is UTF-8
            raise ValueError(f"{table.argument} must be UTF-8 text, but {table.name} is not: {error}") from error


class HubExamples(TableExamples, HubColumns):
    """Examples in the rows of a data set on the Hub. Rows that lack a text are left out."""

    leaves_out_gaps = True

    def tables(self) -> dict[str, list[ExampleTable]]:
        return {
            argument.removesuffix("_split"): [ExampleTable(self.rows(argument, split), argument, f"split {split!r}")]
            for argument, split in self.splits.items()
        }


class ExampleFiles(TableExamples):
    """Examples in CSV, TSV, JSON, JSON lines or Parquet files, by their suffixes.

    Args:
        files: paths or globs (`**` goes through folders), one or a list: .csv, .tsv (whose quotation marks are text),
            .json (a list of objects, or such a list under `data`), .jsonl, .parquet.
        validation_files, test_files: the same, held out whole; None: hold out a share of `files`.
        delimiter: separates the cells of a line, instead of the comma of .csv and the tab of .tsv.
    """

    files: str | Sequence[str] | None = None
    validation_files: str | Sequence[str] | None = None
    test_files: str | Sequence[str] | None = None
    delimiter: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self.patterns = {
            argument: patterns_of(argument, getattr(self, argument))
            for argument in FILES
            if argument == "files" or getattr(self, argument) is not None
        }
        if self.delimiter is not None and len(self.delimiter) != 1:
            raise ValueError(f"delimiter must be a single character, got {self.delimiter!r}")
        require_distinct("name a column", self.all_columns)

    def check(self) -> None:
        super().check()
        for argument, paths in self.paths.items():
            for path in paths:
                if path.suffix.lower() not in FORMATS or is_remote(str(path)):
                    raise ValueError(f"{argument} must end in {', '.join(FORMATS)}, got {str(path)!r}")
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

    def tables(self) -> dict[str, list[ExampleTable]]:
        return {
            FILES[argument]: [
                ExampleTable(self.named(self._rows(argument, path)), argument, repr(str(path))) for path in paths
            ]
            for argument, paths in self.paths.items()
        }

    def named(self, rows: "Dataset") -> "Dataset":
        """Return rows whose columns have the names of arguments."""
        return renamed(rows, self.all_columns)

    def _rows(self, argument: str, path: Path) -> "Dataset":
        """Return the rows of a file, and the rows under `data` if it is JSON with such a list."""
        from datasets import Dataset, List
        from pyarrow import ArrowException

        file_format = FORMATS[path.suffix.lower()]
        name = f"{argument} {str(path)!r}"
        options = self._csv_options(name, path) if file_format == "csv" else {}
        files = {"train": glob.escape(str(path.absolute()))}
        rows: Dataset = HubRows(self.cache, file_format, None, files, options=options, argument=name).load()["train"]
        if file_format == "json" and len(rows) == 1 and isinstance(rows.features.get("data"), List):
            try:
                rows = Dataset.from_list(rows[0]["data"])
            except ArrowException as error:  # values of several types in one field
                raise ValueError(f"{name} cannot be read: {error}") from error
        return rows

    def _csv_options(self, name: str, path: Path) -> dict[str, Any]:
        """Return the options of `load_dataset` under which each cell is text; ValueError for an odd header."""
        import pandas as pd
        from datasets import Features, Value

        tab = self.delimiter == "\t" or (self.delimiter is None and path.suffix.lower() == ".tsv")
        options: dict[str, Any] = {
            "sep": self.delimiter or ("\t" if tab else ","),
            "quoting": csv.QUOTE_NONE if tab else csv.QUOTE_MINIMAL,  # in TSV, quotation marks are a part of the text
            "keep_default_na": False,
            "encoding": "utf-8-sig",  # Excel begins UTF-8 with a mark
        }
        try:
            # A first row longer than the header would make pandas take its first cells for an index.
            header = pd.read_csv(path, header=None, nrows=2, dtype=str, **options).iloc[0].tolist()
        except ValueError as error:  # which ParserError and UnicodeDecodeError are
            raise ValueError(f"{name} cannot be read: {' '.join(str(error).split())}") from error
        for argument, column in self.all_columns.items():
            require_choice(argument, column, header)
            if header.count(column) > 1:
                raise ValueError(f"{name} must have one column {column!r}, and has {header.count(column)} of this name")
        return {**options, "features": Features({column: Value("string") for column in self.all_columns.values()})}

"""A user's own texts and their classes."""

from typing import Any

from poslab.data.examples.cells import as_written, is_missing, text_in
from poslab.data.examples.example_files import ExampleFiles
from poslab.data.examples.table_files import Row
from poslab.data.kinds.classes import CLASSES

MIN_EXAMPLES = 20
"""Rows; fewer may each have a class of their own without a mistake."""


class ClassificationFile(ExampleFiles):
    """Texts and their classes in files with a column each.

    Args:
        text: the column of the text (default `text`).
        text_pair: the column of a second text, as in entailment; None: there is none.
        label: the column of the class, a word or a whole number (default `label`), or a list of classes in JSON and
            Parquet.
        separator: separates classes where an example may have several or none, such as `|` in `fast|cheap`; None: the
            whole cell is one class.
        others: those of `ExampleFiles`.
    """

    text: str = "text"
    text_pair: str | None = None
    label: str = "label"
    separator: str | None = None

    title = "classification_file"
    kind = CLASSES
    column_arguments = ("text", "text_pair", "label")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.separator is not None and (not isinstance(self.separator, str) or not self.separator.strip()):
            raise ValueError(f"separator must be one or more characters, got {self.separator!r}")

    @property
    def settings(self) -> tuple[object, ...]:
        return (self.separator,)

    def from_rows(self, rows: list[Row], argument: str) -> dict[str, list[Any]]:
        texts = {name: column for name, column in self.columns.items() if name != "label"}
        columns: dict[str, list[Any]] = {
            name: [text_in(row.values, name, column, row.place) for row in rows] for name, column in texts.items()
        }
        labels: list[Any]
        if self.separator is None and not any(isinstance(row.values.get(self.label), list) for row in rows):
            found = labels = [text_in(row.values, "label", self.label, row.place).strip() for row in rows]
        else:
            labels = [self._classes(row) for row in rows]
            found = [label for several in labels for label in several]
        if argument == "files":  # a test may well be of one class
            self._require_classes(found, len(rows))
        return columns | {"label": labels}

    def _classes(self, row: Row) -> list[str]:
        """Return the classes of an example that may have several, each once."""
        value = row.values.get(self.label)
        if is_missing(value):
            return []
        if self.separator is not None and isinstance(value, str):
            value = value.split(self.separator)
        if not isinstance(value, list):
            raise ValueError(
                f"label must hold a list in every row or in none, but {self.label!r} in {row.place} is {value!r}"
            )
        if any(isinstance(item, list | dict) for item in value):
            raise ValueError(f"label must hold classes, but {self.label!r} in {row.place} is {str(value)[:40]}")
        return list(
            dict.fromkeys(name for item in value if not is_missing(item) and (name := as_written(item).strip()))
        )

    def _require_classes(self, labels: list[str], count: int) -> None:
        classes = sorted(set(labels))
        if len(classes) < 2:
            only = f"only {classes[0]!r}" if classes else "none"
            raise ValueError(f"label must tell at least two classes apart, and {self.label!r} holds {only}")
        if count >= MIN_EXAMPLES and len(classes) > count / 2:
            raise ValueError(
                f"label must name classes, and {self.label!r} holds {len(classes):,} different values in {count:,} rows"
            )

"""A user's own pairs of texts."""

from dataclasses import dataclass
from typing import Any, ClassVar

from poslab.data.examples.cells import text_in
from poslab.data.examples.example_files import ExampleFiles
from poslab.data.examples.table_files import Row
from poslab.data.kinds.pairs import PAIRS


@dataclass(kw_only=True)
class PairsFile(ExampleFiles):
    """Texts and their targets (a translation, a summary, a reply), in files with a column each.

    Args:
        source: the column of the text (default `source`).
        target: the column of its target (default `target`).
        others: those of `ExampleFiles`.
    """

    source: str = "source"
    target: str = "target"

    title: ClassVar[str] = "pairs_file"
    kind = PAIRS
    column_arguments: ClassVar[tuple[str, ...]] = ("source", "target")

    def from_rows(self, rows: list[Row], argument: str) -> dict[str, list[Any]]:
        return {
            name: [text_in(row.values, name, column, row.place) for row in rows]
            for name, column in self.columns.items()
        }

"""A user's own pairs of texts."""

from typing import Any

from poslab.data.examples.cells import text_in
from poslab.data.examples.example_files import ExampleFiles
from poslab.data.examples.table_files import Row
from poslab.data.kinds.pairs import PAIRS


class PairsFile(ExampleFiles):
    """Texts and their targets (a translation, a summary, a reply), in files with a column each.

    Args:
        source: the column of the text (default `source`).
        target: the column of its target (default `target`).
        others: those of `ExampleFiles`.
    """

    source: str = "source"
    target: str = "target"

    title = "pairs_file"
    kind = PAIRS
    column_arguments = ("source", "target")

    def from_rows(self, rows: list[Row], argument: str) -> dict[str, list[Any]]:
        return {
            name: [text_in(row.values, name, column, row.place) for row in rows]
            for name, column in self.columns.items()
        }

"""Figures in a JSON file that grows: a long measurement can be made in pieces, and goes on after an interruption."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from machine import machine

Row = dict[str, Any]

IDENTITY = ("part", "precision", "encoding", "contestant", "length", "batch")
"""The entries that say what was measured; the other entries of a row are figures."""


class Results:
    """Rows of figures, each once; every new one is written at once.

    Args:
        path: the JSON file; None keeps the rows in memory.
        again: whether rows that the file has are measured anew.

    Raises:
        ValueError: if the file's figures are of another machine, with which these must not be mixed.
    """

    def __init__(self, path: Path | None, again: bool = False) -> None:
        self.path, self.again = path, again
        self.machine = machine()
        self.rows: list[Row] = []
        if path is not None and path.is_file():
            before = json.loads(path.read_text(encoding="utf-8"))
            if before["machine"] != self.machine:
                raise ValueError(f"output must not be {path}, which has figures of another machine or other versions")
            self.rows = before["rows"]

    def of(self, part: str) -> list[Row]:
        """Return the rows of a part."""
        return [row for row in self.rows if row["part"] == part]

    def missing(self, identity: Row) -> bool:
        """Return True if a row is still to be measured."""
        return self.again or all(_identity(row) != _identity(identity) for row in self.rows)

    def add(self, row: Row) -> None:
        """Add a row in place of an older one of the same."""
        places = [place for place, other in enumerate(self.rows) if _identity(other) == _identity(row)]
        if places:
            self.rows[places[0]] = row
        else:
            self.rows.append(row)
        if self.path is not None:
            # One row a line, so that a difference of two files can be read.
            lines = ",\n".join(json.dumps(row) for row in self.rows)
            text = f'{{"machine": {json.dumps(self.machine)},\n"rows": [\n{lines}\n]}}\n'
            unfinished = self.path.with_suffix(".tmp")
            unfinished.write_text(text, encoding="utf-8")
            os.replace(unfinished, self.path)


def _identity(row: Row) -> tuple[Any, ...]:
    return tuple(row.get(key) for key in IDENTITY)

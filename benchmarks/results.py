"""Figures of one machine in a JSON file that grows: a measurement continues where it was interrupted."""

from __future__ import annotations

import json
import os
import platform
import re
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil
import torch

Row = dict[str, Any]

Measurement = tuple[Row, Callable[[], list[Row]]]
"""A cell, whose entries say what is measured, and what measures its rows."""

FIGURES = Path(__file__).resolve().parent / "figures"


class Results:
    """Rows of figures. What is measured at once is a cell, whose entries all of its rows have.

    Args:
        path: the JSON file; None keeps the rows in memory.
        device: `cpu` or `cuda`.
        again: whether cells that the file has are measured anew.

    Raises:
        ValueError: if the file's figures are of another machine, with which these must not be mixed.
    """

    def __init__(self, path: Path | None, device: str = "cpu", again: bool = False) -> None:
        self.path, self.again = path, again
        self.machine = machine(device)
        self.rows: list[Row] = []
        if path is not None and path.is_file():
            before = json.loads(path.read_text(encoding="utf-8"))
            if before["machine"] != self.machine:
                raise ValueError(f"output must not be {path}, which has figures of another machine or other versions")
            self.rows = before["rows"]

    def of(self, **cell: Any) -> list[Row]:
        """Return the rows with these entries."""
        return [row for row in self.rows if _is_of(row, cell)]

    def missing(self, cell: Row) -> bool:
        """Return True if a cell is still to be measured."""
        return self.again or not self.of(**cell)

    def add(self, cell: Row, rows: list[Row]) -> None:
        """Add the rows of a cell in place of earlier ones, and write the file."""
        self.rows = [row for row in self.rows if not _is_of(row, cell)] + [{**cell, **row} for row in rows]
        if self.path is not None:
            # One row a line, so that a difference of two files can be read.
            lines = ",\n".join(json.dumps(row) for row in self.rows)
            unfinished = self.path.with_suffix(".tmp")
            unfinished.parent.mkdir(parents=True, exist_ok=True)
            unfinished.write_text(f'{{"machine": {json.dumps(self.machine)},\n"rows": [\n{lines}\n]}}\n', "utf-8")
            os.replace(unfinished, self.path)


def _is_of(row: Row, cell: Row) -> bool:
    return all(row.get(key) == value for key, value in cell.items())


def machine(device: str) -> Row:
    """Return what figures depend on, without anything that identifies the owner of the machine."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = [line.partition(":") for line in cpuinfo.read_text().splitlines()] if cpuinfo.is_file() else []
    known = {name.strip(): value.strip() for name, _, value in lines}
    features = known.get("flags", "").split()
    return {
        "processor": known.get("model name") or platform.processor(),
        "instructions": [name for name in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if name in features],
        "gpu": torch.cuda.get_device_name() if device == "cuda" else None,
        "threads": torch.get_num_threads(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30),
        "python": platform.python_version(),
        **{name: version(name).partition("+")[0] for name in ("torch", "transformers", "x-transformers")},
    }


def file_of(device: str) -> Path:
    """Return the file of this machine's figures."""
    facts = machine(device)
    return FIGURES / f"{re.sub(r'[^a-z0-9]+', '_', (facts['gpu'] or facts['processor']).lower()).strip('_')}.json"

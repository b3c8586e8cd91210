"""The cells of a comparison as jobs, and their records."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from poslab.experiments.cells import Cell, CellResult, Finished, cell_of, result_of
from poslab.experiments.comparison import Comparison
from poslab.experiments.jobs import STUDY, DatabaseLedger, FolderLedger, Job, Jobs, Ledger, Record
from poslab.experiments.plan import CellPlan
from poslab.experiments.storage import open_storage
from poslab.experiments.storage_url import DamagedStorageError


class ComparisonJobs(Jobs[CellResult]):
    """The cells of a comparison, each a job whose key is the cell's identity."""

    def __init__(self, plan: CellPlan, ledger: Ledger) -> None:
        super().__init__(ledger, plan.comparison.lost_after)
        self.plan = plan

    def wanted(self, records: Mapping[str, Record]) -> tuple[list[str], int]:
        cells, unknown = self.plan.wanted(self._results(records))
        return [cell.identity for cell in cells], unknown

    def directory_of(self, key: str) -> Path:
        return Path(self.plan.comparison.output) / cell_of_key(key).directory

    def as_plain_data(self, job: Job, result: CellResult) -> Mapping[str, Any]:
        return asdict(result)

    def results(self) -> Finished:
        """Return the results of the finished cells."""
        return self._results(self.records())

    def _results(self, records: Mapping[str, Record]) -> Finished:
        return {
            key: None if record.outcome is None else result_of(record.outcome)
            for key, record in records.items()
            if self.is_finished(key, record)
        }


def cell_of_key(key: str) -> Cell:
    """Return the cell of a job; DamagedStorageError for a job of something else."""
    try:
        node = json.loads(key)
    except (ValueError, RecursionError) as error:
        raise DamagedStorageError(f"holds something else than a cell: {key[:80]}") from error
    return cell_of(node)


def ledger_of(comparison: Comparison) -> Ledger:
    """Return the records of a comparison: in its run directories, unless it names a database.

    Raises:
        ValueError: if the database cannot be reached.
    """
    if comparison.storage is not None:
        return DatabaseLedger(open_storage(comparison).engine, comparison.name)
    output = Path(comparison.output)
    return FolderLedger(output, lambda key: output / cell_of_key(key).directory)


def identity_of(ledger: Ledger, comparison: Comparison) -> str:
    """Return the identity of a comparison, which its records keep.

    Raises:
        ValueError: if the records are of a sweep.
    """
    with ledger.changing() as records:
        known = records.setdefault(STUDY, {"id": secrets.token_hex(8), "kind": "comparison"})
        if not isinstance(known, dict) or not isinstance(known.get("id"), str):
            raise DamagedStorageError("is damaged: it lacks what the comparison was begun with")
        if known.get("kind") != "comparison":
            raise ValueError(
                f"name={comparison.name}: the storage has a sweep of that name: give this comparison a name of its own"
            )
        return known["id"]

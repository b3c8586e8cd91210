"""The cells of a comparison as jobs, and the definitions of its runs."""

from __future__ import annotations

import json
import secrets
import sysconfig
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from poslab.data.source import default_cache
from poslab.experiments.cells import Cell, CellResult, Finished, cell_of, result_of
from poslab.experiments.comparison import Comparison
from poslab.experiments.configurations import CellConfigurations
from poslab.experiments.jobs import STUDY, DatabaseLedger, FolderLedger, Job, Jobs, Ledger, Record
from poslab.experiments.plan import CellPlan
from poslab.experiments.storage import open_storage
from poslab.experiments.storage_url import DamagedStorageError
from poslab.io.files import PACKAGE
from poslab.training.resume import changes_since


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


def definitions(
    ledger: Ledger, comparison: Comparison, configurations: CellConfigurations, keep: bool
) -> tuple[str, dict[str, int]]:
    """Return the identity of a comparison, and the number of the present definition of each `case/encoding`.

    Files of choices, and the comparison's own, may change between two commands. An equal definition of before keeps its
    number; a new one gets the next, and is kept if `keep`. Runs of an earlier definition are kept, and not compared
    with those of the newest.

    Raises:
        ValueError: if the records are of a sweep.
    """
    numbers = {}
    # equal on every machine, wherever it keeps packages, data and the working folder
    folders = {sysconfig.get_path("purelib"): PACKAGE, str(default_cache()): "cache:", str(Path.cwd()): ""}
    with ledger.changing() as records:
        known = records.setdefault(STUDY, {"id": secrets.token_hex(8), "definitions": {}})
        if not isinstance(known, dict) or not isinstance(known.get("id"), str):
            raise DamagedStorageError("is damaged: it lacks what the comparison was begun with")
        if "definitions" not in known:
            raise ValueError(
                f"name={comparison.name}: the storage has a sweep of that name: give this comparison a name of its own"
            )
        for case, encoding in comparison.pairs:
            name = f"{case}/{encoding}"
            now: dict[str, Any] = _without_folders(
                json.loads(json.dumps(configurations.definition(case, encoding))), folders
            )
            earlier = known["definitions"].get(name, [])
            if not isinstance(earlier, list) or not all(isinstance(before, dict) for before in earlier):
                raise DamagedStorageError(f"is damaged: the definitions of {name} are none that Poslab writes")
            same = (not any(changes_since(_without_folders(before, folders), now)) for before in earlier)
            numbers[name] = next((number for number, is_same in enumerate(same, 1) if is_same), len(earlier) + 1)
            if keep and numbers[name] > len(earlier):
                known["definitions"][name] = [*earlier, now]
        return known["id"], numbers


def _without_folders(node: Any, folders: Mapping[str, str]) -> Any:
    """Return a part of a configuration in which the beginnings of paths have other names."""
    if isinstance(node, dict):
        return {key: _without_folders(value, folders) for key, value in node.items()}
    if isinstance(node, list | tuple):
        return [_without_folders(value, folders) for value in node]
    if isinstance(node, str):
        for folder, name in folders.items():
            if node.startswith(f"{folder}/"):
                return name + node.removeprefix(f"{folder}/")
    return node

"""Cells of a comparison: one case, one encoding and one seed each, and what becomes of them."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from poslab.experiments.comparison import NAME
from poslab.experiments.storage_url import DamagedStorageError
from poslab.experiments.tables import RunResult

SCORES = "scores.parquet"  # file of a run with the scores of its test items
EXTRA_SCORES = "extra_scores.parquet"  # file of a run with its scores by metrics that its task does not have
Point = Mapping[str, Any]  # values of tuned keys


@dataclass(frozen=True)
class Cell:
    """One run of a comparison, or of its tuning."""

    case: str
    encoding: str
    seed: int
    point: Point  # values of tuned keys
    is_trial: bool  # True for a run of the tuning, which is never a result
    definition: str = ""  # digest of the configuration of this case and encoding
    lengths: Sequence[int] = ()  # of the test
    extra: Sequence[str] = ()  # tags of the further metrics, which its task does not have
    # directory of the run that it starts from, within the comparison's; None starts from scratch
    after: str | None = None

    @property
    def identity(self) -> str:
        """Text that is equal for equal cells."""
        return json.dumps(self.as_plain_data(), sort_keys=True)

    def as_plain_data(self) -> dict[str, Any]:
        """Return its arguments, for JSON."""
        return {**vars(self), "point": dict(self.point), "lengths": list(self.lengths), "extra": list(self.extra)}

    @property
    def directory(self) -> Path:
        """Directory of its run within the comparison's; the lengths of the test do not change it."""
        kind = "trials" if self.is_trial else "runs"
        made_of = [dict(self.point), self.definition, self.after]
        digest = hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()[:8]
        return Path(kind) / self.case / self.encoding / f"seed_{self.seed}_{digest}"

    @property
    def label(self) -> str:
        """The cell in a few words: `addition: t5, seed 2` or `addition: t5, lr=0.001, seed 1000`."""
        return RunResult(self.case, self.encoding, self.seed, self.is_trial, point=self.point).label


@dataclass(frozen=True)
class CellResult:
    """The result of a finished cell."""

    metrics: Mapping[str, float] = field(default_factory=dict)  # of its run by tag, as in metrics.json
    # of its test by tag, such as `bits_per_byte@1024`; empty for a trial
    scores: Mapping[str, float] = field(default_factory=dict)
    diverged: str = ""  # the reason why it has no scores, if its loss was no longer a number; "" if it has
    machine: str = ""  # processor and threads, or the name of the GPU
    # hashes of the first `batch` and of the first `weights` outside the encoding, and version of the `split`
    start: Mapping[str, str | None] = field(default_factory=dict)
    commit: str = ""


def result_of_row(run: RunResult) -> CellResult:
    """Return the result of a finished run in a table."""
    start = {"batch": run.batch, "weights": run.weights, "split": run.split}
    return CellResult(run.metrics, run.scores, run.reason if run.diverged else "", run.machine, start, run.commit)


Finished = Mapping[str, CellResult | None]
"""Results of the finished cells by identity; None of one that failed for good."""


def cell_of(node: Any) -> Cell:
    """Return the cell of plain data, which a database may have; DamagedStorageError for anything that is not a cell."""
    try:
        cell = Cell(**{**node, "lengths": tuple(node["lengths"]), "extra": tuple(node["extra"])})
        paths = [cell.directory.as_posix(), *([] if cell.after is None else [cell.after])]
        if not all(re.fullmatch(rf"(runs|trials)/{NAME}/{NAME}/{NAME}", path) for path in paths):
            raise ValueError("a path leads elsewhere")
    except (TypeError, KeyError, ValueError, AttributeError) as error:
        raise DamagedStorageError(f"contains something else than a cell: {str(node)[:80]}") from error
    return cell


def result_of(node: Any) -> CellResult:
    """Return the result of plain data, which a database may have; DamagedStorageError for anything that is none."""
    try:
        result = CellResult(**node)
        numbers = [*result.metrics.values(), *result.scores.values()]
        texts = [result.diverged, result.machine, result.commit, *filter(None, result.start.values())]
        if not all(type(n) in (int, float) for n in numbers) or not all(isinstance(text, str) for text in texts):
            raise ValueError("a number or a text is none")
    except (TypeError, AttributeError, ValueError) as error:
        raise DamagedStorageError(f"contains something else than a result: {str(node)[:80]}") from error
    return result

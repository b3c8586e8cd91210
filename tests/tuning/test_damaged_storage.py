"""A storage that is damaged is one sentence that names it, whatever the place."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from poslab.runs.errors import RunStoppedError
from poslab.tuning.storage import naming_storage
from poslab.tuning.study import TrialResult
from poslab.tuning.sweep import Sweep

from .sweeps import joined, small_sweep

PAGE = 4096
"""Bytes of a page of SQLite, which has tables and indices on pages of their own."""


@pytest.fixture
def sweep(tmp_path: Path) -> Sweep:
    """A sweep whose trials are complete."""
    sweep = small_sweep(tmp_path)
    study = joined(sweep)
    while (trial := study.take("worker")) is not None:
        sweep.search_space.suggest(trial)
        study.complete(trial, TrialResult([1.0], {}))
    return sweep


def damages(whole: bytes) -> Iterator[bytes]:
    """Yield the contents of a file with one page after another lost, and cut short."""
    for begin in range(0, len(whole), PAGE):
        yield whole[:begin] + b"\xff" * PAGE + whole[begin + PAGE :]
    for share in (0.1, 0.5, 0.9):
        yield whole[: int(len(whole) * share)]


@pytest.mark.slow
def test_a_damaged_storage_is_read_or_named_in_one_sentence(sweep):
    file = Path(sweep.output) / "study.db"
    whole, sentences = file.read_bytes(), []
    for damaged in damages(whole):
        file.write_bytes(damaged)
        try:
            with naming_storage(sweep):
                joined(sweep).record()
        except (ValueError, RunStoppedError) as error:
            sentences.append(str(error))

    assert len(sentences) >= 3
    assert all("storage=sqlite:" in sentence for sentence in sentences), sentences
    assert all(file.name in sentence and "\n" not in sentence for sentence in sentences), sentences

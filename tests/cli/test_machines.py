"""A comparison as jobs of one of Hydra's launchers, which share a PostgreSQL database."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.storages import POSTGRESQL

from .test_compare import arguments_of, compare, runs_of


@pytest.mark.slow
@pytest.mark.needs(POSTGRESQL)
def test_two_jobs_of_a_launcher_train_each_cell_once(postgresql: str, tmp_path: Path, tiny: list[str]) -> None:
    words = ["hydra/launcher=submitit_local", "machines=2", "name=two_jobs", f"storage={postgresql}", "preset=untuned"]
    ended = compare(tmp_path, *arguments_of(tiny), *words)
    assert ended.status == 0, ended
    assert "2 jobs are started" in ended.output
    assert len(runs_of(tmp_path)) == 4
    printed = [file.read_text() for file in tmp_path.glob("outputs/machines/*/.submitit/*/*_log.out")]
    finished = [line for text in printed for line in text.splitlines() if line.startswith("finished")]
    assert len(printed) == 2
    assert all("written: out/report.html" in text for text in printed)
    assert {line.partition(" (")[0] for line in finished} == {
        f"finished  text: {encoding}, seed {seed}" for encoding in ("none", "rotary") for seed in (1, 2)
    }

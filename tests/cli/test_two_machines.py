"""Machines that share only a PostgreSQL database: each has its own folder, data and cache, and the same command."""

from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd
import pytest
from optuna.storages import RDBStorage
from sqlalchemy.pool import NullPool

from poslab.experiments.jobs import LOST, STUDY, DatabaseLedger, Record
from poslab.runs.directory import RunDirectory
from tests.storages import POSTGRESQL

from .conftest import write_documents
from .running import Ended, Running, at_step, start_sweep
from .test_compare import start as start_comparison
from .test_kills import assert_trained_once

RUNS = 4
WORDS = [
    "trainer=cpu",
    "trainer.max_steps=40",
    "trainer.saves=4",
    "dataset.files=data/*.txt",
    "dataset.cache_dir=cache",
]


class Machine:
    """A folder with data, in which a command is typed."""

    def __init__(self, folder: Path, question: str, words: list[str]) -> None:
        folder.mkdir()
        write_documents(folder / "data")
        self.folder, self.out, self._question, self._words = folder, folder / "out", question, words

    def start(self, *words: str, environment: dict[str, str] | None = None) -> Running:
        """Start the command."""
        if self._question == "sweep":
            of_question = [f"n_trials={RUNS}", "pruner=null"]
            return start_sweep(self.folder, *self._words, *of_question, *words, environment=environment)
        of_question = ["comparison=question.yaml", "output=out", "preset=untuned"]
        return start_comparison(self.folder, *self._words, *of_question, *words, environment=environment)

    def finished(self) -> set[str]:
        """Return the directories of its finished runs."""
        return {file.parent.relative_to(self.out).as_posix() for file in self.out.glob("**/metrics.json")}


def begun_together(machines: list[Machine]) -> list[Ended]:
    """Start the command on all machines, and wait for all ends."""
    return [running.wait(400) for running in [machine.start() for machine in machines]]


def begun_and_killed(machines: list[Machine], folder: Path) -> list[Ended]:
    """Kill the command of the first machine in the middle of its second run, and start it again after the other's."""
    first, second = machines
    has_finished = f"any('metrics.json' in files for *_, files in os.walk({str(first.out)!r}))"
    stuck = first.start(environment=at_step(15, has_finished).stuck(folder))
    stuck.wait_until((folder / "begun").exists, 400)
    running = second.start()
    running.wait_until(second.finished, 400)
    assert stuck.kill().status == 137
    ended = running.wait(400)
    return [first.start().wait(400), ended]


@pytest.mark.slow
@pytest.mark.timeout(1500)
@pytest.mark.needs(POSTGRESQL)
@pytest.mark.parametrize(("question", "killed"), [("sweep", True), ("comparison", False)])
def test_machines_that_share_a_database_train_each_run_once_and_each_report_all(
    question: str, killed: bool, tmp_path: Path, tiny: list[str], postgresql: str
) -> None:
    name = f"machines_{question}_{killed}"
    words = [*tiny, *WORDS, f"name={name}", f"storage={postgresql}", "lost_after=20"]
    machines = first, second = [Machine(tmp_path / folder, question, words) for folder in ("first", "second")]
    ends = begun_and_killed(machines, tmp_path / "stuck") if killed else begun_together(machines)
    assert [(ended.status, ended.errors) for ended in ends] == [(0, "")] * 2

    assert len(first.finished() | second.finished()) == RUNS
    assert not first.finished() & second.finished(), "a run was trained twice"
    for machine in machines:
        assert machine.finished()
        for run in machine.finished():
            assert_trained_once(machine.out / run)
    nodes = DatabaseLedger(RDBStorage(postgresql, engine_kwargs={"poolclass": NullPool}).engine, name).read()
    records = [Record.of(node) for key, node in nodes.items() if key != STUDY]
    assert len(records) == RUNS and all(record.outcome is not None for record in records)
    assert [a.failure for record in records for a in record.attempts if a.failure is not None] == [LOST] * killed
    if question == "sweep":
        assert_each_reports_the_sweep(machines)
    else:
        assert_each_reports_the_comparison(machines)


def assert_each_reports_the_sweep(machines: list[Machine]) -> None:
    """Check that the reports are equal, and that the machine that trained the best trial has tested it."""
    first, second = [pd.read_csv(machine.out / "trials.csv") for machine in machines]
    pd.testing.assert_frame_equal(first, second)
    assert list(first["state"]) == ["complete"] * RUNS
    assert len({(machine.out / "best.yaml").read_text() for machine in machines}) == 1
    best = f"trials/{first['validation/bits_per_byte@1x+2x'].idxmin():04}"
    for machine in machines:
        assert (machine.out / "report.html").is_file()
        tested = {run for run in machine.finished() if "test/loss" in RunDirectory(machine.out / run).metrics()}
        assert tested == {best} & machine.finished()


def assert_each_reports_the_comparison(machines: list[Machine]) -> None:
    """Check that each machine has the scores of all runs, and items and curves of its own, or of all once copied."""
    first, second = machines
    tables = [pd.read_parquet(machine.out / "runs.parquet") for machine in machines]
    shared = [column for column in tables[0] if not column.startswith("reading")]
    pd.testing.assert_frame_equal(tables[0][shared], tables[1][shared])
    assert tables[0]["test/bits_per_byte@128"].notna().all() and tables[0]["commit"].all() and len(tables[0]) == RUNS
    keys = ["case", "encoding", "seed", "metric"]
    values = [pd.read_csv(machine.out / "results.csv").set_index(keys)["value"] for machine in machines]
    pd.testing.assert_series_equal(values[0], values[1])
    assert values[0].xs("bits_per_byte@2x", level="metric").between(1, 9).sum() == RUNS
    for machine in machines:
        assert (machine.out / "report.html").is_file()
        for table in ("curves", "items"):
            assert runs_in(machine, table) == len(machine.finished())

    shutil.copytree(second.out / "runs", first.out / "runs", dirs_exist_ok=True)
    ended = first.start("report_only=true").wait(300)
    assert ended.status == 0, ended
    assert runs_in(first, "curves") == runs_in(first, "items") == RUNS
    checks = pd.read_csv(first.out / "figures" / "checks.csv").set_index("check")["holds"]
    assert checks["item scores known"]


def runs_in(machine: Machine, table: str) -> int:
    """Return the number of runs in a table of a machine."""
    return len(
        pd.read_parquet(machine.out / f"{table}.parquet", columns=["case", "encoding", "seed"]).drop_duplicates()
    )

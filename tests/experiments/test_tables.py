"""Results as tables, from which a report needs neither data nor models."""

from __future__ import annotations

import dataclasses
import math
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from poslab.evaluation.scores.items import ItemScores, MeasuredRun, require_bounded
from poslab.experiments.cells import CellResult
from poslab.experiments.collect import read_results, results_of_cells, write_tables
from poslab.experiments.command import Publication, report_tables
from poslab.experiments.report.tables import differences
from poslab.experiments.tables import (
    ItemTable,
    RunResult,
    read_runs,
    write_curves,
    write_items,
    write_runs,
)
from poslab.tasks.answering import WrittenAnswers
from tests.experiments.comparisons import TUNING, plan, results
from tests.experiments.report.test_write import timed

RESULTS = Path(__file__).parents[2] / "results"
STUDIES = sorted(path.parent.name for path in RESULTS.glob("*/runs.parquet"))

RUNS = [
    RunResult("a", "rotary", 1, words=("encoding=rotary",), metrics={"steps": 3}, scores={"loss@2": math.nan}),
    RunResult("a", "t5", 1, True, "failed", "reason", {"lr": 1e-3, "n": 2, "name": "x"}, lengths=(2, 4)),
]


def test_rows_of_runs_come_back(tmp_path):
    write_runs(tmp_path, RUNS)
    first, second = read_runs(tmp_path)
    assert math.isnan(first.scores.pop("loss@2")) and first.metrics == {"steps": 3}
    assert (first.words, second.lengths) == (["encoding=rotary"], [2, 4])
    assert (second.point, second.status, second.is_trial) == (RUNS[1].point, "failed", True)
    assert second.metrics == second.scores == {}


def test_a_table_has_no_path_of_a_machine(tmp_path):
    write_runs(tmp_path, [RunResult("a", "rotary", 1, directory=str(tmp_path / "runs" / "a"))])
    assert pq.read_table(tmp_path / "runs.parquet")["directory"].to_pylist() == ["runs/a"]
    moved = tmp_path.rename(tmp_path.with_name("moved"))
    assert [run.directory for run in read_runs(moved)] == [str(moved / "runs" / "a")]


@pytest.mark.parametrize("study", STUDIES)
def test_no_published_table_has_a_path_of_a_machine(study):
    assert not [
        path for path in pq.read_table(RESULTS / study / "runs.parquet")["directory"].to_pylist() if path[:1] == "/"
    ]


def test_metrics_of_a_run_are_neither_scores_nor_other_columns(tmp_path):
    metrics = {"steps": 2**63 - 1, "test/loss": 1.0, "test/loss@2": 1.0, "reading/x": 1.0, "case": 1.0, "\x1b[2J": 1.0}
    write_runs(tmp_path, [RunResult("a", "rotary", 1, metrics=metrics, scores={"loss@2": 2.0})])
    (run,) = read_runs(tmp_path)
    assert (run.case, run.scores, run.reading, run.metrics) == ("a", {"loss@2": 2.0}, {}, {"steps": 2.0**63})


def test_items_and_curves_come_back_bit_for_bit(tmp_path):
    sums, counts = np.array([0.1, 0.2, np.nextafter(0.3, 1)]), np.array([1, 0, 5])
    scores = {("loss", n): ItemScores("loss", n, sums * (n or 1), counts, "same") for n in (None, 2, 4)}
    write_items(tmp_path, {("a", name, 1): MeasuredRun(name, "test", scores, {}) for name in ("rotary", "t5")})
    table = ItemTable(tmp_path)
    for name in ("rotary", "t5"):
        found = table.of(("a", name, 1))
        assert found.scores.keys() == scores.keys()
        for key, one in scores.items():
            assert found.scores[key].sums.tobytes() == one.sums.tobytes()
            assert found.scores[key].counts.tolist() == counts.tolist()
    assert table.of(("a", "alibi", 1)) is None
    write_curves(tmp_path, {("a", "rotary", 1): [(1, "loss", 0.5), (2, "loss", 0.25)]})
    assert pq.read_table(tmp_path / "curves.parquet")["value"].to_pylist() == [0.5, 0.25]


def damaged_runs(tmp_path, change):
    write_runs(tmp_path, RUNS)
    path = tmp_path / "runs.parquet"
    pq.write_table(change(pq.read_table(path)), path)


@pytest.mark.parametrize(
    "change",
    [
        lambda table: table.drop_columns("seed"),
        lambda table: pa.concat_tables([table, table]),
        lambda table: table.set_column(0, "case", pa.array(["../a", "a"])),
        lambda table: table.set_column(0, "case", pa.array(["a", None])),
        lambda table: table.set_column(table.column_names.index("status"), "status", pa.array(["finished", "?"])),
        lambda table: table.set_column(table.column_names.index("point"), "point", pa.array(["[", "{}"])),
        lambda table: table.set_column(table.column_names.index("reason"), "reason", pa.array(["\x1b[2J", ""])),
    ],
)
def test_a_table_of_a_stranger_is_checked(tmp_path, change):
    damaged_runs(tmp_path, change)
    with pytest.raises(ValueError, match=r"runs\.parquet is damaged"):
        read_runs(tmp_path)


@pytest.mark.parametrize("content", [b"", b"PAR1", b"PAR1" + b"\xff" * 100 + b"PAR1"])
def test_a_file_that_is_no_table_is_named(tmp_path, content):
    for name, read in (("runs", read_runs), ("items", ItemTable)):
        (tmp_path / f"{name}.parquet").write_bytes(content)
        with pytest.raises(ValueError, match=rf"{name}\.parquet is damaged"):
            read(tmp_path)
    with pytest.raises(ValueError, match=r"runs\.parquet is missing"):
        read_runs(tmp_path / "nowhere")


def test_a_file_that_would_need_too_much_memory_is_not_read(tmp_path, monkeypatch):
    write_runs(tmp_path, RUNS)
    monkeypatch.setattr("poslab.experiments.tables.MAX_ROWS", 1)
    with pytest.raises(ValueError, match=r"runs\.parquet is damaged"):
        read_runs(tmp_path)


def test_a_small_file_that_stands_for_a_terabyte_is_not_read(tmp_path):
    path, number = tmp_path / "items.parquet", 10**6
    texts = pa.DictionaryArray.from_arrays(pa.array(np.zeros(number, np.int32)), pa.array(["x" * number]))
    for column in (texts, pa.ListArray.from_arrays(pa.array([0, number], pa.int32()), texts)):
        pq.write_table(pa.table({"a": column}), path, store_schema=False)
        assert path.stat().st_size < number
        with pytest.raises(ValueError):
            require_bounded(lambda **given: pq.ParquetFile(path, **given), number**2)
        require_bounded(lambda **given: pq.ParquetFile(path, **given), 2 * number**2)
    write_items(tmp_path, {})
    columns = {field.name: pa.array(["1"] * number).cast(field.type) for field in pq.read_schema(path)}
    pq.write_table(pa.table(columns | {"identity": texts}), path, store_schema=False)
    with pytest.raises(ValueError, match=r"items\.parquet is damaged"):
        ItemTable(tmp_path)


def test_results_come_back_from_their_tables(tmp_path):
    made = timed(results(tuning=TUNING, output=str(tmp_path)), lambda name, length: 1.5 if name == "none" else 1.0)
    write_tables(made, tmp_path)
    found = read_results(tmp_path)
    assert differences(found, "copying").equals(differences(made, "copying"))
    assert found.tuned("copying") == made.tuned("copying")
    assert [run.reading for run in found.rows] == [run.reading for run in made.rows]
    write_tables(dataclasses.replace(made, exist_already=True), tmp_path)
    assert read_results(tmp_path).exist_already and not found.exist_already
    assert read_results(tmp_path, baseline="none").comparison.baseline == "none"
    with pytest.raises(ValueError, match="baseline"):
        read_results(tmp_path, baseline="alibi")


@pytest.mark.parametrize("line", ["1", "x,loss,1", f"{2**63},loss,1", "1,\x1b[2J,1", '1,"loss', f"1,{'x' * 200_000},1"])
def test_damaged_curves_of_a_run_are_named(tmp_path, line):
    made = results(output=str(tmp_path))
    rows = [dataclasses.replace(run, directory=str(tmp_path)) for run in made.rows]
    (tmp_path / "metrics.json").touch()
    (tmp_path / "metrics.csv").write_text(f"step,tag,value\n1,loss,0.5\n{line}\n")
    with pytest.raises(ValueError, match=r"metrics\.csv is damaged"):
        write_tables(dataclasses.replace(made, rows=rows), tmp_path)


def test_a_run_that_another_machine_has_finished_has_no_curves_here(tmp_path):
    made = results(output=str(tmp_path))
    rows = [dataclasses.replace(run, directory=str(tmp_path)) for run in made.rows]
    (tmp_path / "metrics.csv").write_text("step,tag,value\n1,loss,0.5\n")
    for file, count in ((None, 0), ("metrics.json", len(rows))):
        if file is not None:
            (tmp_path / file).touch()
        write_tables(dataclasses.replace(made, rows=rows), tmp_path)
        assert len(pq.read_table(tmp_path / "curves.parquet")) == count


@pytest.mark.parametrize("budget", [{"steps": 3}, {"tokens": 3000}])
def test_a_row_of_a_run_of_another_machine_has_its_budget_and_its_commit(budget):
    made = plan(seeds=1, budget=budget)
    finished = {cell.identity: CellResult({"steps": 3}, commit="abc") for cell in made.wanted({})[0]}
    recipe = SimpleNamespace(task=WrittenAnswers, source=SimpleNamespace(split_version=2))
    rows = results_of_cells(made, finished, {"copying": recipe}).rows
    assert rows and all(run.commit == "abc" and "trainer.max_steps=3" in run.words for run in rows)


def test_rows_that_the_comparison_does_not_name_are_an_error(tmp_path):
    made = results(output=str(tmp_path))
    write_tables(made, tmp_path)
    write_runs(tmp_path, [dataclasses.replace(made.rows[0], encoding="alibi")])
    with pytest.raises(ValueError, match=r"runs\.parquet .*alibi"):
        read_results(tmp_path)


def test_a_row_of_a_cell_has_the_words_that_compose_its_run():
    made = plan(seeds=1, overrides=["trainer.max_steps=3"])
    finished = {cell.identity: CellResult() for cell in made.wanted({})[0]}
    recipe = SimpleNamespace(task=WrittenAnswers, source=SimpleNamespace(split_version=2))
    rows = results_of_cells(made, finished, {"copying": recipe}).rows
    slow = next(run for run in rows if run.encoding == "slow")
    assert [word.replace("'", "") for word in slow.words] == [
        *("experiment=small", "dataset=copy", "encoding=rotary", "encoding.base=1000", "seed=1"),
        "trainer.max_steps=3",
    ]
    assert (slow.task, slow.aggregate_lengths, slow.newest_split) == ("WrittenAnswers", True, "2")


def test_a_report_needs_nothing_but_the_tables(tmp_path, capsys):
    for file in ("comparison.yaml", "runs.parquet", "curves.parquet", "items.parquet"):
        shutil.copy(RESULTS / "t5_rate" / file, tmp_path / file)
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir()}
    report_tables(tmp_path, Publication("poslab compare report_only=true", needs={}))
    assert "copy: take rate_0.02; inconclusive: rate_0.1 (" in capsys.readouterr().out
    assert (tmp_path / "report.html").is_file() and (tmp_path / "differences.csv").is_file()
    assert {name: (tmp_path / name).read_bytes() for name in before} == before


@pytest.mark.parametrize("name", [".lock", "figures", "items.parquet"])
def test_a_link_in_a_folder_of_tables_leads_nowhere(tmp_path, name):
    folder, other = tmp_path / "tables", tmp_path / "other"
    folder.mkdir()
    write_tables(results(output=str(folder)), folder)
    other.write_text("precious")
    (folder / name).unlink(missing_ok=True)
    (folder / name).symlink_to(other)
    with pytest.raises(ValueError, match="symbolic links"):
        report_tables(folder, Publication("poslab compare report_only=true"))
    assert other.read_text() == "precious"


@pytest.mark.parametrize("name", ["encoding_choice", "t5_rate", "pretrained_minilm"])
def test_the_differences_in_the_documentation_are_those_of_the_tables(name):
    found = read_results(RESULTS / name)
    (committed,) = (RESULTS.parent / "docs" / "figures").glob(f"*/{name}/differences.csv")
    then = pd.read_csv(committed).drop(columns=["word", "verdict"], errors="ignore")
    now = pd.concat([differences(found, case) for case in found.comparison.cases], ignore_index=True)
    pd.testing.assert_frame_equal(now[then.columns], then, check_dtype=False, check_exact=True)


@pytest.mark.parametrize("name", STUDIES)
def test_committed_results_name_the_words_and_the_commit_of_every_run(name):
    runs = [run for run in read_runs(RESULTS / name) if not run.is_trial]
    assert runs and all(run.commit and run.words and f"seed={run.seed}" in run.words for run in runs)

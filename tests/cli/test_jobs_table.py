"""The table that `-m` prints and writes at its end."""

from __future__ import annotations

import json

import pandas as pd
import pytest

from poslab.cli.jobs import ALL, averaged, each_run, failures, finished_runs, show_jobs
from tests.training.runs import composed


@pytest.fixture
def record(tmp_path):
    """Makes the record of a job: finished with some metrics of its test, or failed with an error."""

    def record(*overrides: str, metric: str = "bits_per_byte", pools: bool = False, error: str = "", **values: float):
        job = {"overrides": list(overrides), "config": composed(*overrides)}
        if error:
            return job | {"error": error}
        run = tmp_path / "_".join(overrides)
        run.mkdir()
        tags = {
            f"test/{metric}{'@' if name.isdigit() else ''}{name if name.isdigit() else ''}": value
            for name, value in values.items()
        }
        (run / "metrics.json").write_text(json.dumps(tags))
        return job | {"run": str(run), "metric": metric, "decimals": 3, "aggregate_lengths": pools}

    return record


def rows(frame: pd.DataFrame) -> list[list[str]]:
    return [list(frame.columns), *frame.values.tolist()]


def test_runs_that_differ_in_the_seed_are_one_row_with_mean_and_spread(record):
    runs = finished_runs(
        [
            record("encoding.base=1e5", "seed=1", **{"256": 2.0, "512": 3.0, "whole": 2.0}),
            record("encoding.base=1e5", "seed=2", **{"256": 2.2, "512": 3.2, "whole": 2.0}),
            record("encoding=learned", "seed=1", **{"256": 2.5, "whole": 2.5}),
        ]
    )
    assert rows(averaged(runs)) == [
        ["encoding", "runs", "256", "512"],
        ["rotary", "2", "2.100 ±0.141", "3.100 ±0.141"],
        ["learned", "1", "2.500", "–"],
    ]
    table = each_run(runs)
    assert table["seed"].tolist() == [1, 2, 1] and table["256"].tolist() == [2.0, 2.2, 2.5]


def test_a_row_names_what_differs(record):
    runs = finished_runs([record(f"encoding.base={base}", **{"8": 1.0}) for base in ("1e5", "1e6")])
    assert averaged(runs)["encoding"].tolist() == ["rotary base=1e5", "rotary base=1e6"]


def test_a_task_without_lengths_has_one_column_and_one_with_lengths_all_beside_them(record):
    (one,) = finished_runs([record("encoding=t5", metric="accuracy", pools=True, **{"64": 80.0, "whole": 80.0})])
    assert one.values == {ALL: 80.0}
    (two,) = finished_runs(
        [record("encoding=alibi", metric="accuracy", pools=True, **{"10": 90.0, "20": 70.0, "whole": 80.0})]
    )
    assert two.values == {"10": 90.0, "20": 70.0, ALL: 80.0}


def test_tasks_of_different_metrics_have_a_column_that_names_it(record):
    runs = finished_runs(
        [
            record("dataset=python_docs", **{"256": 2.0}),
            record("dataset=copy", metric="accuracy", pools=True, **{"10": 90.0, "20": 70.0, "whole": 80.0}),
        ]
    )
    assert averaged(runs)["metric"].tolist() == ["bits per byte", "accuracy"]


def test_failed_jobs_are_named_with_their_reason_and_those_of_a_killed_process_too(record):
    lost = record("encoding=alibi", "seed=3", error="x")
    del lost["error"]
    failed = failures(
        [
            record("encoding.base=100", **{"8": 1.0}),
            record("encoding.base=1e5", error="the loss is\nnot finite"),
            lost,
            {"overrides": ["encoding=t5", "seed=x"], "error": "seed must be an integer"},
        ]
    )
    assert [line.rpartition(": ")[::2] for line in failed] == [
        ("failed: rotary base=1e5 seed=1", "the loss is not finite"),
        ("failed: alibi seed=3", "its process ended"),
        ("failed: encoding=t5 seed=x", "seed must be an integer"),
    ]


@pytest.mark.parametrize("width", [80, 50])
def test_many_lengths_are_blocks_of_the_width_of_the_terminal(width, record, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", str(width))
    (tmp_path / ".jobs").mkdir()
    job = record("encoding.base=1e5", "encoding.fraction=0.5", **{str(2**n): 99.99 for n in range(30)})
    (tmp_path / ".jobs" / "0.json").write_text(json.dumps(job))
    show_jobs(tmp_path)
    table = capsys.readouterr().out.partition("written:")[0]
    assert max(map(len, table.splitlines())) <= width
    assert table.count("99.99") == 30, "none is cut"


def test_jobs_of_which_none_has_finished_have_no_table(tmp_path, capsys):
    (tmp_path / ".jobs").mkdir()
    (tmp_path / ".jobs" / "0.json").write_text(json.dumps({"overrides": ["seed=x"], "error": "no"}))
    show_jobs(tmp_path)
    assert capsys.readouterr().out == "failed: seed=x: no\n"
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_command_of_several_jobs_ends_with_their_table(small, run_command, tmp_path):
    ended = run_command(
        "src.train", "-m", *small, "encoding=rotary", "encoding.base=0,100,1e5", "seed=1,2", "hydra.sweep.dir=all"
    )
    assert ended.status == 2, ended
    end = ended.output.splitlines()
    assert end[-1] == "written: all/table.csv, table.md, table.tex"
    assert [line.split(": ")[1] for line in end[-3:-1]] == [f"rotary base=0 seed={seed}" for seed in (1, 2)]
    assert any(line.startswith("bits per byte") for line in end)
    assert [line.split()[:2] for line in end[-6:-3] if "base=" in line] == [
        ["rotary", f"base={n}"] for n in ("100", "1e5")
    ]
    names = sorted(path.name for path in (tmp_path / "all").iterdir())
    assert names == [
        *(
            f"{n}_text_rotary_base-{base}_seed-{seed}"
            for n, base, seed in ((2, "100", 1), (3, "100", 2), (4, "1e5", 1), (5, "1e5", 2))
        ),
        *("multirun.yaml", "table.csv", "table.md", "table.tex"),
    ]
    table = pd.read_csv(tmp_path / "all" / "table.csv")
    assert table["encoding"].tolist() == ["rotary base=100"] * 2 + ["rotary base=1e5"] * 2
    assert set(table.columns) == {"encoding", "seed", "run", "metric", "16", "32"}
    assert table["16"].tolist() == [
        json.loads((tmp_path / run / "metrics.json").read_text())["test/bits_per_byte@16"] for run in table["run"]
    ]
    assert "| rotary base=100 |" in (tmp_path / "all" / "table.md").read_text()
    assert "rotary base=100 &" in (tmp_path / "all" / "table.tex").read_text()
    assert run_command("src.train", *small).output.count("table") == 0, "a single run has no table"

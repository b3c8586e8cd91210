"""`python -m src.compare`, as a user types it, with real workers that train real runs."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from poslab.cli.compare import main
from poslab.configuration.command_line import CONF
from poslab.experiments.jobs import Record
from tests.storages import POSTGRESQL

from .running import Ended, Running, assert_same_run, python

QUESTION = """
question: Does it work?
baseline: rotary
encodings: [none, rotary]
cases:
  text: {train: {}, lengths: [1x, 2x]}
seeds: 2
metrics: {bits_per_byte@2x: {direction: minimize, margin: 0.01}}
tuning: {metric: loss, direction: minimize, space: {optimizer.lr: [1.0e-3, 2.0e-3]}}
presets:
  untuned: {tuning: null}
"""


@pytest.fixture(scope="session")
def compared(once: Callable[..., Path], tiny: list[str]) -> tuple[Path, str]:
    """The folder of a finished comparison without tuning in `out`, and what it has printed."""

    def make(folder: Path) -> None:
        folder.mkdir()
        ended = compare(folder, *arguments_of(tiny), "preset=untuned")
        assert ended.status == 0, ended
        (folder / "output.txt").write_text(ended.output)

    folder = once("compared", make)
    return folder, (folder / "output.txt").read_text()


def arguments_of(tiny: list[str]) -> list[str]:
    return ["comparison=question.yaml", "output=out", "trainer=cpu", *tiny, "trainer.max_steps=20", "trainer.saves=2"]


def start(directory: Path, *arguments: str, environment: dict[str, str] | None = None) -> Running:
    (directory / "question.yaml").write_text(QUESTION)
    return Running(python("-m", "src.compare", *arguments), directory, {"COLUMNS": "80", **(environment or {})})


def compare(directory: Path, *arguments: str) -> Ended:
    return start(directory, *arguments).wait(300)


def runs_of(folder: Path) -> dict[str, float]:
    """The moment at which each run of a comparison was finished, by its directory."""
    files = sorted(folder.glob("out/runs/*/*/*/metrics.json"))
    return {str(file.parent.relative_to(folder)): file.stat().st_mtime for file in files}


@pytest.mark.slow
def test_a_comparison_trains_every_cell_and_reports(compared: tuple[Path, str]) -> None:
    folder, output = compared
    assert len(runs_of(folder)) == 4
    assert "finished  text: none, seed 1" in output
    assert "written: out/report.html" in output
    frame = pd.read_csv(folder / "out" / "results.csv")
    decided = frame[frame["metric"] == "bits_per_byte@2x"]
    assert len(decided) == 4
    assert decided["value"].between(1, 9).all()
    checks = pd.read_csv(folder / "out" / "figures" / "checks.csv").set_index("check")["holds"]
    assert checks["same data order"]
    assert checks["same first weights"]


@pytest.mark.slow
def test_more_seeds_and_lengths_train_and_measure_only_what_is_missing(
    compared: tuple[Path, str], tmp_path: Path, tiny: list[str]
) -> None:
    shutil.copytree(compared[0], tmp_path, dirs_exist_ok=True)
    before = runs_of(tmp_path)
    text = QUESTION.replace("[1x, 2x]", "[1x, 2x, 4x]")
    (tmp_path / "longer.yaml").write_text(text)
    longer = [word.replace("question.yaml", "longer.yaml") for word in arguments_of(tiny)]
    ended = Running(python("-m", "src.compare", *longer, "preset=untuned", "name=question_untuned"), tmp_path).wait(200)
    assert ended.status == 0, ended
    assert runs_of(tmp_path) == before
    assert "bits_per_byte@256" in (tmp_path / "out" / "results.csv").read_text()

    more = compare(tmp_path, *arguments_of(tiny), "preset=untuned", "seeds=3")
    assert more.status == 0, more
    after = runs_of(tmp_path)
    assert {run: after[run] for run in before} == before
    added = sorted(set(after) - set(before))
    assert [path.rpartition("_")[0] for path in added] == [
        f"out/runs/text/{name}/seed_3" for name in ("none", "rotary")
    ]


@pytest.mark.slow
def test_a_comparison_goes_on_from_its_tables(compared: tuple[Path, str], tmp_path: Path, tiny: list[str]) -> None:
    """As in a fresh clone, which has the tables and not the runs."""
    tables = [f"{name}.parquet" for name in ("runs", "curves", "items")]
    (tmp_path / "out").mkdir()
    for name in tables:
        shutil.copy(compared[0] / "out" / name, tmp_path / "out")
    words = [*arguments_of(tiny), "preset=untuned"]
    assert "4 of 4 runs" in compare(tmp_path, *words, "dry_run=true").output
    shutil.copytree(tmp_path / "out", tmp_path / "other", ignore=lambda *_: {"runs"})
    refused = compare(tmp_path, *words, "output=other", "optimizer.lr=3e-3", "dry_run=true")
    assert refused.status == 2 and "output=other has tables of other settings" in refused.errors, refused
    ended = compare(tmp_path, *words, "seeds=3")
    assert ended.status == 0, ended
    assert len(runs_of(tmp_path)) == 2
    for name in tables:
        before, after = (pd.read_parquet(folder / "out" / name) for folder in (compared[0], tmp_path))
        same = [name for name in before if not name.startswith("reading")]  # timed again, with weights that are here
        pd.testing.assert_frame_equal(after[after["seed"] < 3].reset_index(drop=True)[same], before[same])


@pytest.mark.slow
@pytest.mark.parametrize("killed", [False, True])
def test_two_commands_at_once_train_every_cell_once(tmp_path: Path, tiny: list[str], killed: bool) -> None:
    """If one of them is killed, the other trains what is left."""
    words = [*arguments_of(tiny), "preset=untuned", "trainer.max_steps=40", "trainer.saves=4"]
    first, second = start(tmp_path, *words), Running(python("-m", "src.compare", *words), tmp_path)
    if killed:
        first.wait_until(lambda: runs_of(tmp_path), 200)
        first.kill()
    for running in [second] if killed else [first, second]:
        ended = running.wait(300)
        assert (ended.status, ended.errors) == (0, ""), ended
    files = [json.loads(file.read_text()) for file in tmp_path.glob("out/runs/*/*/*/job.json")]
    records = [Record.of(node) for file in files for node in file.values()]
    assert len(records) == len(runs_of(tmp_path)) == 4
    assert all(record.outcome is not None for record in records)
    assert sum(len(record.attempts) - 1 for record in records) <= killed
    assert not (tmp_path / "out" / "study.db").exists()
    decided = pd.read_csv(tmp_path / "out" / "results.csv").query("metric == 'bits_per_byte@2x'")
    assert len(decided) == 4 and decided["value"].between(1, 9).all()


@pytest.mark.slow
@pytest.mark.needs("g++")
def test_a_run_is_the_same_in_a_warm_worker_and_in_a_fresh_one(tmp_path: Path, tiny: list[str]) -> None:
    text = "text: {train: {model.dropout: 0.1}, lengths: [1x, 2x]}"
    settings = (
        "model.dropout: 0.2, trainer.kernel: compiled, trainer.deterministic: true, trainer.precision: bf16-mixed"
    )
    other = f"other: {{train: {{{settings}}}, lengths: [1x, 2x]}}"
    for folder, cases in (("warm", f"{{{other}, {text}}}"), ("fresh", f"{{{text}}}")):
        (tmp_path / f"{folder}.yaml").write_text(
            f"{{question: the same, baseline: rotary, encodings: [rotary, none], cases: {cases}, seeds: 1, "
            "metrics: {bits_per_byte@2x: {direction: minimize, margin: 0.01}}}"
        )
        words = [word for word in tiny if not word.startswith("trainer.precision")]
        words = [*words, f"comparison={folder}.yaml", f"output={folder}", "trainer=cpu"]
        ended = Running(python("-m", "src.compare", *words), tmp_path).wait(300)
        assert ended.status == 0, ended
    warm, fresh = (next(tmp_path.glob(f"{folder}/runs/text/rotary/*")) for folder in ("warm", "fresh"))
    assert_same_run(warm, fresh)


@pytest.mark.slow
def test_a_dry_run_prints_what_is_there_and_trains_nothing(tmp_path: Path, tiny: list[str]) -> None:
    ended = compare(tmp_path, *arguments_of(tiny), "dry_run=true")
    assert ended.status == 0, ended
    assert "0 of 2   0 of 2" in ended.output
    assert re.search(r"0 of 8 runs.* about \d+ (s|min)", ended.output)
    assert max(map(len, ended.output.splitlines())) <= 80
    assert not list(tmp_path.glob("out/*/*/*"))


@pytest.mark.slow
def test_finished_runs_are_compared_and_an_encoding_is_recommended(compared: tuple[Path, str], tmp_path: Path) -> None:
    shutil.copytree(compared[0], tmp_path, dirs_exist_ok=True)
    command = python(
        "-m", "src.compare", "runs=out/runs/text/*/*", "output=again", "recommend=true", "lengths=[64,128]"
    )
    ended = Running(command, tmp_path, {"COLUMNS": "80"}).wait(120)
    assert ended.status == 0, ended
    assert "text: take " in " ".join(ended.output.split())
    frame = pd.read_csv(tmp_path / "again" / "results.csv")
    assert sorted(set(zip(frame["encoding"], frame["seed"], strict=True))) == [
        *[("none", 1), ("none", 2)],
        *[("rotary", 1), ("rotary", 2)],
    ]
    assert "lengths=[64,128]" in (tmp_path / "again" / "report.html").read_text()
    for name in ("runs", "curves", "items"):
        assert len(pd.read_parquet(tmp_path / "again" / f"{name}.parquet"))


@pytest.mark.slow
@pytest.mark.needs(POSTGRESQL)
def test_the_password_of_a_storage_is_written_nowhere(tmp_path: Path, tiny: list[str], postgresql: str) -> None:
    secret = postgresql.replace("tester@", "tester:s3cret'word@")
    ended = compare(tmp_path, *arguments_of(tiny), "name=secret", "seeds=1", f"storage={secret}")
    assert ended.status == 0, ended
    said = [ended.output, ended.errors]
    for wrong in ("storage=postgresql:/me:s3cret@host", "storage=postgresql://me:x@y:s3cret@host/db"):
        refused = compare(tmp_path, *arguments_of(tiny), "output=refused", wrong)
        assert refused.status == 2, refused
        said.append(refused.errors)
    written = [file.read_bytes() for file in tmp_path.glob("**/*") if file.is_file()]
    assert len(written) > 20
    assert not any("s3cret" in text for text in said)
    assert not any(b"s3cret" in content for content in written)
    assert b"tester:***@" in (tmp_path / "out" / "report.html").read_bytes()
    assert b"tester" not in (tmp_path / "out" / "comparison.yaml").read_bytes()


@pytest.mark.slow
def test_its_help_lists_keys_and_comparisons(tmp_path: Path) -> None:
    ended = compare(tmp_path, "--help")
    assert ended.status == 0
    assert "papers/kazemnejad2023" in ended.output
    assert max(map(len, ended.output.splitlines())) <= 80


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["comparison=recall"], "results/recall"),
        (["comparison=papers/kazemnejad2023", "preset=small"], "results/kazemnejad2023"),
        (["comparison=text", "preset=small"], None),
        (["comparison=recall", "pilot=elsewhere"], "elsewhere"),
    ],
)
def test_a_dry_run_has_the_published_results_as_its_pilot(arguments, expected, monkeypatch):
    pilots = []
    monkeypatch.setattr("poslab.experiments.command.run_comparison", lambda *_, pilot, **__: pilots.append(pilot))
    main([*arguments, "dry_run=true"])
    main([word for word in arguments if not word.startswith("pilot")])
    assert pilots == [expected and (expected if expected == "elsewhere" else str(CONF.parent / expected)), None]

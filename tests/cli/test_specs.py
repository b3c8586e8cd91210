"""Command lines of comparisons and sweeps: own keys, runs by pattern, and jobs of a launcher."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from poslab.cli.compare import OWN_KEYS, main
from poslab.cli.specs import named_runs, own_keys_and_overrides
from tests.storages import POSTGRESQL

from .test_compare import arguments_of, compare, runs_of


def test_runs_are_a_text_or_a_list():
    for typed, runs in (("runs=a*", "a*"), ("runs=[a,b*]", ["a", "b*"]), ("runs='a (1)'", "a (1)")):
        assert own_keys_and_overrides([typed], "comparison", OWN_KEYS) == ({"runs": runs}, [])


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["comparison=same_encoding"], "same_encoding: "),
        (["runs=[a,b]"], "comparing 2 runs\n"),
    ],
)
def test_a_comparison_prints_a_line_before_the_slow_imports(words, line, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "poslab.experiments.command", None)
    with pytest.raises(ImportError):
        main(words)
    assert capsys.readouterr().out.startswith(line)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The current directory, with two run directories and one that is none."""
    monkeypatch.chdir(tmp_path)
    for name in ("2026_a", "2026_b", "2026_none"):
        (tmp_path / name).mkdir()
    for name in ("2026_a", "2026_b"):
        (tmp_path / name / "config.yaml").touch()
    (tmp_path / "of_day_1" / "2026_c").mkdir(parents=True)
    (tmp_path / "of_day_1" / "2026_c" / "config.yaml").touch()
    (tmp_path / "of_day_1" / "2026_file").touch()


@pytest.mark.parametrize(
    ("value", "runs"),
    [
        ("2026_a", ["2026_a"]),
        (["2026_b", "2026_a"], ["2026_b", "2026_a"]),
        ("2026*", ["2026_a", "2026_b"]),
        (["2026_[b]"], ["2026_b"]),
        ("elsewhere", ["elsewhere"]),
        (["2026_b", "*_a"], ["2026_b", "2026_a"]),
        (["of_day_*/2026*"], ["of_day_1/2026_c"]),
    ],
)
def test_a_pattern_stands_for_all_run_directories_like_it(folder, value, runs):
    assert named_runs(value) == runs


def test_a_pattern_may_be_absolute(folder, tmp_path):
    assert named_runs([f"{tmp_path}/2026_a", f"{tmp_path}/of*/*"]) == [
        *(f"{tmp_path}/{name}" for name in ("2026_a", "of_day_1/2026_c"))
    ]
    with pytest.raises(ValueError, match="runs must all be different"):
        named_runs(["2026_a", f"{tmp_path}/*_a"])


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        (["2026_a", "of_day_2*/a*"], r"^runs=of_day_2\*/a\*:.*is no "),
        ("x*", "there is no "),
        ([], "runs must name run directories"),
        (3, "runs must name run directories"),
        (["2026*", "./2026_a"], "runs must .* got 2026_a and ./2026_a"),
    ],
)
def test_a_mistake_is_one_sentence(folder, value, sentence):
    with pytest.raises(ValueError, match=sentence):
        named_runs(value)


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

"""Command lines of comparisons and sweeps: own keys, runs by pattern, and jobs of a launcher."""

from __future__ import annotations

import sys

import pytest

from poslab.cli.compare import OWN_KEYS, main
from poslab.cli.hydra_command import named_runs, own_keys_and_overrides


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

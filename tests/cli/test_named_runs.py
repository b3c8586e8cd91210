"""Runs that a command line names."""

from __future__ import annotations

import pytest

from poslab.cli.specs import named_runs


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
        (["2026_a", "of_day_2*/a*"], r"^runs=of_day_2\*/a\*: there is no "),
        ("x*", "there is no "),
        ([], "runs must name run directories"),
        (3, "runs must name run directories"),
        (["2026*", "./2026_a"], "runs must .* got 2026_a and ./2026_a"),
    ],
)
def test_a_mistake_is_one_sentence(folder, value, sentence):
    with pytest.raises(ValueError, match=sentence):
        named_runs(value)

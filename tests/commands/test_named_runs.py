"""Runs that a command line names."""

from __future__ import annotations

import pytest

from poslab.commands.named_runs import named_runs


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The current directory, with two run directories and one that is none."""
    monkeypatch.chdir(tmp_path)
    for name in ("2026_a", "2026_b", "2026_none"):
        (tmp_path / name).mkdir()
    for name in ("2026_a", "2026_b"):
        (tmp_path / name / "config.yaml").touch()


@pytest.mark.parametrize(
    ("value", "runs"),
    [
        ("2026_a", ["2026_a"]),
        (["2026_b", "2026_a"], ["2026_b", "2026_a"]),
        ("2026*", ["2026_a", "2026_b"]),
        (["2026_[b]"], ["2026_b"]),
        ("elsewhere", ["elsewhere"]),
    ],
)
def test_a_pattern_stands_for_all_run_directories_like_it(folder, value, runs):
    assert named_runs(value) == runs


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        ("x*", "there is no run directory like that"),
        ([], "runs must name run directories"),
        (3, "runs must name run directories"),
        (["2026*", "./2026_a"], "runs must all be different, got 2026_a and ./2026_a"),
    ],
)
def test_a_mistake_is_one_sentence(folder, value, sentence):
    with pytest.raises(ValueError, match=sentence):
        named_runs(value)

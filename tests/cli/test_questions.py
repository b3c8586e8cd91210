"""Command lines of comparisons and sweeps, and the first line that a comparison prints."""

from __future__ import annotations

import sys

import pytest

from poslab.cli.compare import OWN_KEYS, main
from poslab.cli.specs import own_keys_and_overrides


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

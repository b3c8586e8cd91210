"""Advice on lists in the command lines of comparisons and sweeps, and the first line that a comparison prints."""

from __future__ import annotations

import re
import shlex
import sys

import pytest

from poslab.cli.compare import OWN_KEYS, main
from poslab.cli.questions import own_keys_and_overrides


def mistake_in(*words: str) -> str:
    with pytest.raises(ValueError, match="runs=") as caught:
        own_keys_and_overrides(list(words), "comparison", OWN_KEYS)
    return str(caught.value)


@pytest.mark.parametrize(
    ("typed", "runs"),
    [
        ("runs=[outputs/lr=0.1,b]", ["outputs/lr=0.1", "b"]),
        ("runs=[outputs/my run (1), b]", ["outputs/my run (1)", "b"]),
        ("runs=[a&b,c*]", ["a&b", "c*"]),
        ("runs=outputs/a (1)", "outputs/a (1)"),
    ],
)
def test_advice_on_quotes_names_the_runs_that_were_typed(typed, runs):
    (advice,) = re.findall(r'as in "(.*)"$', mistake_in(typed))
    assert own_keys_and_overrides([advice], "comparison", OWN_KEYS) == ({"runs": runs}, [])


def test_a_list_without_brackets_is_written_with_them():
    advice = mistake_in("runs=a*,b").partition("write ")[2]
    (word,) = shlex.split(advice)
    assert own_keys_and_overrides([word], "comparison", OWN_KEYS) == ({"runs": ["a*", "b"]}, [])


@pytest.mark.parametrize(
    ("word", "mistake"),
    [
        ("optimizer=null", "optimizer=null: a group without a choice is written ~optimizer"),
        ("callbacks=null", "callbacks=null: a group without a choice is written callbacks=[]"),
        ("optimizer=[adamw,lion]", "optimizer must be one choice of conf/optimizer, got [adamw,lion]"),
    ],
)
def test_values_that_hydra_reads_as_something_that_nobody_means_are_refused_here_too(word, mistake):
    with pytest.raises(ValueError, match=f"^{re.escape(mistake)}$"):
        own_keys_and_overrides([word], "comparison", OWN_KEYS)


def test_a_choice_of_every_run_that_varies_stands_in_the_file():
    with pytest.raises(ValueError, match=r"^model=decoder,encoder: what varies stands in the file of the comparison$"):
        own_keys_and_overrides(["model=decoder,encoder"], "comparison", OWN_KEYS)


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

"""The examples of docstrings print what they say."""

import doctest
import importlib

import pytest

from tests.conftest import ROOT

LIBRARY = ROOT / "src" / "poslab"
FILES = sorted(path for path in LIBRARY.rglob("*.py") if "\n        >>> " in path.read_text(encoding="utf-8"))


def test_there_are_examples_for_people_with_attention_of_their_own():
    assert {"attend.py", "rotary.py", "alibi.py", "t5.py", "sinusoidal.py"} <= {path.name for path in FILES}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_an_example_prints_what_it_says(path):
    module = importlib.import_module(".".join(path.relative_to(LIBRARY.parent).with_suffix("").parts))
    assert doctest.testmod(module, report=True).failed == 0

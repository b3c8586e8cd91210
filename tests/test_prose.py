"""Docstrings say what something is or does, in plain words."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]

QUESTION_WORDS = re.compile(r"(What|Whether|How|Which|Who|Whom|Whose|Where|When|Why)\b")
OLD_VERBS = re.compile(r"\b(told|goes on with|takes for)\b")


def docstrings() -> Iterator[tuple[str, str]]:
    """Yield the docstrings of modules, classes, functions and attributes, each with its place."""
    for folder in ("src", "docs", "benchmarks"):
        for file in sorted((ROOT / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                text = node.value.value if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) else None
                if isinstance(text, str):
                    yield f"{file.relative_to(ROOT)}:{node.lineno}", text


def test_no_docstring_begins_with_a_question_word() -> None:
    assert [place for place, text in docstrings() if QUESTION_WORDS.match(text)] == []


def test_no_docstring_says_told() -> None:
    assert [place for place, text in docstrings() if OLD_VERBS.search(text)] == []

"""Parts of an evaluation, one file each, named as the part; a new part needs nothing else.

A file begins with a docstring, whose first sentence `python -m src.evaluate --help` shows. It has `PLACE`, the place of
its section in the report, `NEEDS`, the abilities of a run without which it is left out, and
`make(runs, settings)`, which returns an `Evaluation` with its section, metrics and frames, or an empty one. It is
called with all runs if at least one has the abilities.
"""

from __future__ import annotations

import ast
import pkgutil
from importlib.util import find_spec
from pathlib import Path


def names() -> list[str]:
    """Return the names of all parts without importing them: a command line is checked before any slow import."""
    return [module.name for module in pkgutil.iter_modules(__path__)]


def meanings() -> dict[str, str]:
    """Return the first sentence of the docstring of each part by its name, without importing any."""
    return {name: _docstring(name).partition("\n")[0].partition(". ")[0].rstrip(".") for name in names()}


def _docstring(name: str) -> str:
    spec = find_spec(f"{__name__}.{name}")
    assert spec is not None and spec.origin is not None
    return ast.get_docstring(ast.parse(Path(spec.origin).read_text(encoding="utf-8"))) or ""

"""Parts of an evaluation, one file each, named as the part: this folder is their registry.

A file starts with a docstring, whose first sentence `python -m src.evaluate --help` shows. It has `ORDER`, the position
of its section in the report, `NEEDS`, the abilities of a run without which it is left out, and `make(runs, settings)`,
which returns an `Evaluation` with its section, metrics and frames, or an empty one. It is called with all runs if at
least one has the abilities.
"""

from __future__ import annotations

import ast
import pkgutil
from pathlib import Path


def names() -> list[str]:
    """Return the names of all parts without importing them: a command line is checked before any slow import."""
    return [module.name for module in pkgutil.iter_modules(__path__)]


def meanings() -> dict[str, str]:
    """Return the first sentence of the docstring of each part by its name, without importing any."""
    (folder,) = __path__
    sentences = {}
    for name in names():
        source = (Path(folder) / f"{name}.py").read_text(encoding="utf-8")
        first = (ast.get_docstring(ast.parse(source)) or "").partition("\n")[0]
        sentences[name] = first.partition(". ")[0].rstrip(".")
    return sentences

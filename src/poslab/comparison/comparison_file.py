"""Comparison files, and the keys of the command line that override them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

from poslab.comparison.comparison import Comparison
from poslab.comparison.mistakes import checked
from poslab.configuration.build import nearest, package_names
from poslab.configuration.question_files import QuestionFiles

KEYS = (
    *("question", "baseline", "encodings", "cases", "seeds", "metrics", "gate", "tuning", "budget", "costs", "train"),
    *("paper", "published", "claims", "differences"),
)
"""Keys of a comparison file, beside its presets."""


def comparison_files(folder: Path) -> QuestionFiles:
    """Return the comparison files of a folder."""
    return QuestionFiles("comparison", folder, KEYS)


def read_comparison(folder: Path, given: Mapping[str, Any], overrides: Sequence[str]) -> Comparison:
    """Return the comparison of a command line.

    Args:
        folder: of the comparison files.
        given: keys of the command line for the comparison: `comparison` (a name in the folder, or the path of a file),
            `preset`, and arguments of `Comparison` that override those of the file.
        overrides: choices of every run, as typed.

    Raises:
        ValueError: for an unknown comparison, preset or key, or an invalid value.
    """
    given, files = dict(given), comparison_files(folder)
    if "comparison" not in given:
        raise ValueError(f"comparison must name one of {', '.join(files.names())}, or the path of a file like them")
    typed = given.pop("comparison")
    path, preset = files.path(typed), given.pop("preset", None)
    node = files.read(path, preset)
    allowed = [argument.name for argument in fields(Comparison) if argument.name not in ("overrides", "question")]
    if unknown := sorted(set(given) - set(allowed)):
        raise ValueError(f"{unknown[0]}: there is no such key{nearest(unknown[0], ['comparison', 'preset', *allowed])}")
    if "trust" in given:
        given["trust"] = package_names(given["trust"])
    stem = path.stem if str(typed).endswith((".yaml", ".yml")) else str(typed)
    node = {"name": stem if preset is None else f"{stem}_{preset}", **node, **given, "overrides": list(overrides)}
    node.setdefault("output", f"outputs/comparisons/{node['name']}")
    needed = [one.name for one in fields(Comparison) if one.default is MISSING and one.default_factory is MISSING]
    if missing := [key for key in needed if key not in node]:
        raise ValueError(f"{path} must have {' and '.join(missing)}")
    try:
        return checked(Comparison(**node))
    except ValueError as error:
        raise ValueError(f"{error} (comparison={stem})") from error

"""Comparison files, and the keys of the command line that override them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from poslab.comparison.comparison import Comparison, must_be_given
from poslab.comparison.mistakes import checked
from poslab.comparison.published import published_results
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
        known = ", ".join(files.names())
        raise ValueError(f"comparison must name a comparison, or the path of a file like them (comparisons: {known})")
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
    needed = [one.name for one in fields(Comparison) if must_be_given(one)]
    if missing := [key for key in needed if key not in node]:
        raise ValueError(f"{path} must have {' and '.join(missing)}")
    try:
        made = checked(Comparison(**node))
        _check_claims(made, [made.as_plain_data(), files.read(path, preset), files.read(path, None)])
        return made
    except ValueError as error:
        raise ValueError(f"{error} (comparison={stem})") from error


def _check_claims(comparison: Comparison, nodes: Sequence[Mapping[str, Any]]) -> None:
    """Raise ValueError for a claim on an encoding or a case that there is nowhere.

    Those that a preset or the command line leaves out are not tested; others are mistakes.

    Args:
        comparison: with the claims.
        nodes: forms of the comparison, such as that of its file without the preset.
    """
    published = published_results(comparison)
    entries = [entry for node in nodes for entry in node.get("encodings") or ()]
    encodings = [str(entry.get("name")) if isinstance(entry, Mapping) else str(entry) for entry in entries]
    cases = [str(name) for node in nodes for name in node.get("cases") or ()]
    for place, claim in enumerate(() if published is None else published.all_claims):
        named = (("better", claim.better, encodings), ("than", claim.than, encodings), ("case", claim.case, cases))
        for key, name, known in named:
            if name is not None and name not in known:
                what = "case" if key == "case" else "encoding"
                raise ValueError(f"claims[{place}].{key}: there is no {what} {name} here{nearest(name, known)}")

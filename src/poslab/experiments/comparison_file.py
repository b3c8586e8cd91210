"""Comparison files, and the keys of the command line that override them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from poslab.arguments import nearest
from poslab.configuration.command_line import key_of
from poslab.configuration.spec_files import SpecFiles
from poslab.experiments.comparison import Comparison
from poslab.experiments.composition import with_rates_of_typed_model
from poslab.experiments.mistakes import checked
from poslab.experiments.published import published_results

KEYS = (
    *("question", "baseline", "encodings", "cases", "seeds", "metrics", "gate", "tuning", "budget", "costs", "train"),
    *("paper", "published", "claims", "differences"),
)
"""Keys of a comparison file, beside its presets."""


def comparison_files(folder: Path) -> SpecFiles:
    """Return the comparison files of a folder."""
    return SpecFiles("comparison", folder, KEYS)


def read_comparison(folder: Path, given: Mapping[str, Any], overrides: Sequence[str]) -> Comparison:
    """Return the comparison of a command line.

    Args:
        folder: of the comparison files.
        given: keys of the command line for the comparison, as of `SpecFiles.chosen`.
        overrides: choices of every run, as typed.

    Raises:
        ValueError: for an unknown comparison, preset or key, or an invalid value.
    """
    files = comparison_files(folder)
    path, preset, node = files.chosen(given, Comparison)
    typed = str(given["comparison"])
    stem = path.stem if typed.endswith((".yaml", ".yml")) else typed
    node = {"name": stem if preset is None else f"{stem}_{preset}", **node, "overrides": list(overrides)}
    node = with_rates_of_typed_model({**node, "cases": _cases_of_typed_model(node, overrides)}, overrides)
    node.setdefault("output", f"outputs/comparisons/{node['name']}")
    try:
        made = checked(Comparison(**node))
        _check_claims(made, [made.as_plain_data(), files.read(path, preset), files.read(path, None)])
        return made
    except ValueError as error:
        raise ValueError(f"{error} (comparison={stem})") from error


def _cases_of_typed_model(node: Mapping[str, Any], overrides: Sequence[str]) -> Any:
    """Return the cases of a comparison: with a typed path alone, only those of pretrained models, if there are any."""
    cases, typed = node.get("cases"), set(map(key_of, overrides))
    if "model.path" not in typed or "model" in typed or not isinstance(cases, Mapping):
        return cases
    own = {name: {**(node.get("train") or {}), **((case or {}).get("train") or {})} for name, case in cases.items()}
    pretrained = {name: cases[name] for name in cases if own[name].get("model") == "pretrained"}
    return pretrained or cases


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
    for place, claim in enumerate(() if published is None else published.claims):
        named = (("better", claim.better, encodings), ("than", claim.than, encodings), ("case", claim.case, cases))
        for key, name, known in named:
            if name is not None and name not in known:
                what = "case" if key == "case" else "encoding"
                raise ValueError(f"claims[{place}].{key}: there is no {what} {name} here{nearest(name, known)}")

"""Comparison files, and the keys of the command line that override them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from poslab.configuration.command_line import key_of
from poslab.configuration.spec_files import SpecFiles
from poslab.experiments.comparison import Comparison
from poslab.experiments.composition import with_rates_of_typed_model
from poslab.experiments.mistakes import checked
from poslab.experiments.sizes import with_cases_of_sizes

KEYS = (
    *("question", "baseline", "encodings", "variants", "cases", "seeds", "metrics", "gate", "tuning", "budget"),
    *("pairing", "cases_are", "costs", "train", "paper", "published", "claims", "differences", "predictions"),
    *("sizes", "tokens_per_parameter"),
)
"""Keys of a comparison file other than `presets`."""


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
    of_file = {key: value for key, value in given.items() if key not in ("encodings", "sizes")}
    path, preset, node = files.chosen(of_file, Comparison)
    node |= _selected(node, given["encodings"]) if "encodings" in given else {}
    typed = str(given["comparison"])
    stem = path.stem if typed.endswith((".yaml", ".yml")) else typed
    node = {"name": stem if preset is None else f"{stem}_{preset}", **node, "overrides": list(overrides)}
    node = with_rates_of_typed_model({**node, "cases": _cases_of_typed_model(node, overrides)}, overrides)
    node.setdefault("output", f"outputs/comparisons/{node['name']}")
    try:
        return checked(Comparison(**with_cases_of_sizes(node, given.get("sizes"))))
    except ValueError as error:
        raise ValueError(f"{error} (comparison={stem})") from error


def _selected(node: Mapping[str, Any], names: Any) -> dict[str, Any]:
    """Return the encodings and variants of the typed names, and the tuning without that of others.

    A name of the file is its encoding or variant, any other one an encoding of `conf/encoding`.
    """
    if not isinstance(names, list):
        return {"encodings": names}  # a mistake
    entries, variants, tuning = (node.get(key) for key in ("encodings", "variants", "tuning"))
    variants = variants if isinstance(variants, Mapping) else {}
    of_file = {
        str(entry.get("name") if isinstance(entry, Mapping) else entry): entry
        for entry in (entries if isinstance(entries, list) else ())
    }
    selected: dict[str, Any] = {
        "encodings": [of_file.get(str(name), name) for name in names if str(name) not in variants],
        "variants": {name: choices for name, choices in variants.items() if name in names},
    }
    if isinstance(tuning, Mapping) and isinstance(tuning.get("of"), Mapping):
        left_out = [name for name in (*of_file, *variants) if name not in names]
        selected["tuning"] = {**tuning, "of": {name: of for name, of in tuning["of"].items() if name not in left_out}}
    return selected


def _cases_of_typed_model(node: Mapping[str, Any], overrides: Sequence[str]) -> Any:
    """Return the cases of a comparison: with a typed path alone, only those of pretrained models, if there are any."""
    cases, typed = node.get("cases"), set(map(key_of, overrides))
    if "model.path" not in typed or "model" in typed or not isinstance(cases, Mapping):
        return cases
    choices = {name: {**(node.get("train") or {}), **((case or {}).get("train") or {})} for name, case in cases.items()}
    pretrained = {name: cases[name] for name in cases if choices[name].get("model") == "pretrained"}
    return pretrained or cases

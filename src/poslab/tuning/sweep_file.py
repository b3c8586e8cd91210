"""Sweep files, the defaults beside them, and what the command line changes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from poslab.configuration.build import nearest, package_names
from poslab.configuration.interpolations import check_interpolations
from poslab.io.reading import read_yaml
from poslab.tuning.sweep import Sweep

DEFAULTS = "defaults.yaml"
"""File of a folder of sweeps that holds what they share."""

OF_FILES = ("question", "train", "space", "objectives", "n_trials", "seeds", "sampler", "pruner", "presets")
"""Keys of a sweep file."""


def read_sweep(folder: Path, given: Mapping[str, Any], overrides: Sequence[str]) -> Sweep:
    """Return the sweep that the command line asks for.

    Args:
        folder: of the sweep files.
        given: keys of the command line that speak of the sweep: `sweep` (a name in the folder, or the path of a file),
            `preset`, and arguments of `Sweep` that take the place of the file's.
        overrides: choices of every trial, as they were typed.

    Raises:
        ValueError: if there is no such sweep, preset or key, or one has a value that it cannot have.
    """
    given = dict(given)
    if "sweep" not in given:
        raise ValueError(f"sweep must name one of {', '.join(names(folder))}, or the path of a file like them")
    path, preset = _file(folder, given.pop("sweep")), given.pop("preset", None)
    node = _with_defaults(path, preset)
    allowed = [argument.name for argument in fields(Sweep) if argument.name not in ("overrides", "question")]
    if unknown := sorted(set(given) - set(allowed)):
        raise ValueError(f"{unknown[0]}: there is no such key{nearest(unknown[0], ['sweep', 'preset', *allowed])}")
    if "trust" in given:
        given["trust"] = package_names(given["trust"])
    name = path.stem if preset is None else f"{path.stem}_{preset}"
    node = {"name": name, **node, **given, "overrides": list(overrides)}
    node.setdefault("output", f"outputs/sweeps/{node['name']}")
    if missing := [key for key in ("question", "space", "n_trials") if key not in node]:
        raise ValueError(f"{path} must say {' and '.join(missing)}")
    try:
        return Sweep(**node)
    except ValueError as error:
        raise ValueError(f"{error} (sweep={path.stem})") from error


def names(folder: Path) -> list[str]:
    """Return the names of the sweeps in a folder."""
    return sorted(file.stem for file in folder.glob("*.yaml") if file.name != DEFAULTS)


def _file(folder: Path, sweep: Any) -> Path:
    path = Path(str(sweep))
    if path.suffix in (".yaml", ".yml"):
        if not path.is_file():
            raise ValueError(f"sweep={sweep}: there is no such file")
        return path
    if sweep not in names(folder):
        there_are = names(folder)
        raise ValueError(
            f"sweep={sweep}: there is no such sweep{nearest(str(sweep), there_are)} (sweeps: {', '.join(there_are)})"
        )
    return folder / f"{sweep}.yaml"


def _with_defaults(path: Path, preset: Any) -> dict[str, Any]:
    """Return the keys of a file over those of the defaults beside it; in each, a preset's are over its own."""
    defaults = path.with_name(DEFAULTS)
    contents = [_contents(file) for file in (defaults, path) if file.is_file()]
    presets = [node.pop("presets", None) or {} for node in contents]
    if preset is not None and not any(preset in of_file for of_file in presets):
        known = sorted({name for of_file in presets for name in of_file})
        raise ValueError(f"preset={preset}: {path.name} has {_listed(known)}{nearest(str(preset), known)}")
    merged: dict[str, Any] = {"train": {}}
    for node, of_file in zip(contents, presets, strict=True):
        chosen = of_file.get(preset) or {}
        if unknown := [key for key in chosen if key not in OF_FILES]:
            raise ValueError(f"{path}: there is no key {unknown[0]} in presets.{preset}{nearest(unknown[0], OF_FILES)}")
        for layer in (node, chosen):
            train = layer.get("train") or {}
            merged |= {**layer, "train": {**merged["train"], **train} if isinstance(train, Mapping) else train}
    return merged


def _contents(path: Path) -> dict[str, Any]:
    contents = read_yaml(path)
    check_interpolations(contents, path)
    if unknown := [key for key in contents if key not in OF_FILES]:
        raise ValueError(f"{path}: there is no key {unknown[0]}{nearest(unknown[0], OF_FILES)}")
    return contents


def _listed(presets: Sequence[str]) -> str:
    return f"the preset{'s' if len(presets) > 1 else ''} {', '.join(presets)}" if presets else "no presets"

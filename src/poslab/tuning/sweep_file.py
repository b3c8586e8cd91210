"""Sweep files, their defaults, and the keys of the command line that override them."""

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
"""Name of the file with the keys that all sweeps of a folder share."""

OF_FILES = ("question", "train", "space", "objectives", "n_trials", "seeds", "sampler", "pruner", "presets")
"""Keys of a sweep file."""


def read_sweep(folder: Path, given: Mapping[str, Any], overrides: Sequence[str]) -> Sweep:
    """Return the sweep of a command line.

    Args:
        folder: of the sweep files.
        given: keys of the command line for the sweep: `sweep` (a name in the folder, or the path of a file), `preset`,
            and arguments of `Sweep` that override those of the file.
        overrides: choices of every trial, as typed.

    Raises:
        ValueError: for an unknown sweep, preset or key, or an invalid value.
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
        raise ValueError(f"{path} must have {' and '.join(missing)}")
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
    if sweep not in (known := names(folder)):
        raise ValueError(
            f"sweep={sweep}: there is no such sweep{nearest(str(sweep), known)} (sweeps: {', '.join(known)})"
        )
    return folder / f"{sweep}.yaml"


def _with_defaults(path: Path, preset: Any) -> dict[str, Any]:
    """Return the keys of a file, which override those of the defaults beside it; in each, a preset overrides."""
    contents = [_contents(file) for file in (path.with_name(DEFAULTS), path) if file.is_file()]
    known = sorted({str(name) for node in contents for name in node["presets"]})
    if preset is not None and preset not in known:
        listed = f"the preset{'s' if len(known) > 1 else ''} {', '.join(known)}" if known else "no presets"
        raise ValueError(f"preset={preset}: {path.name} has {listed}{nearest(str(preset), known)}")
    merged: dict[str, Any] = {"train": {}}
    for node in contents:
        presets = node.pop("presets")
        for layer in (node, presets.get(preset, {})):
            merged |= {**layer, "train": {**merged["train"], **(layer.get("train") or {})}}
    return merged


def _contents(path: Path) -> dict[str, Any]:
    """Return the keys of a file, with its presets by name."""
    contents = read_yaml(path)
    check_interpolations(contents, path)
    contents["presets"] = presets = contents.get("presets") or {}
    if not isinstance(presets, Mapping) or not all(isinstance(preset, Mapping) for preset in presets.values()):
        raise ValueError(f"{path}: presets must be keys by name, as in {{small: {{n_trials: 8}}}}, got {presets!r}")
    for place, node in (("", contents), *((f" in presets.{name}", preset) for name, preset in presets.items())):
        if unknown := [key for key in node if key not in OF_FILES]:
            raise ValueError(f"{path}: there is no key {unknown[0]}{place}{nearest(str(unknown[0]), OF_FILES)}")
        if not isinstance(node.get("train") or {}, Mapping):
            raise ValueError(f"{path}: train{place} must be choices by key, as in {{encoding: rotary}}")
    return contents

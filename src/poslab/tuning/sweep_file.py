"""Sweep files, and the keys of the command line that override them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from poslab.configuration.build import nearest, package_names
from poslab.configuration.question_files import QuestionFiles
from poslab.tuning.sweep import Sweep

KEYS = ("question", "train", "space", "objectives", "n_trials", "seeds", "sampler", "pruner")
"""Keys of a sweep file, beside its presets."""


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
    given, files = dict(given), sweep_files(folder)
    if "sweep" not in given:
        raise ValueError(
            f"sweep must name a sweep, or the path of a file like them (sweeps: {', '.join(files.names())})"
        )
    path, preset = files.path(given.pop("sweep")), given.pop("preset", None)
    node = files.read(path, preset)
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


def sweep_files(folder: Path) -> QuestionFiles:
    """Return the sweep files of a folder."""
    return QuestionFiles("sweep", folder, KEYS)

"""Sweep files, and the keys of the command line that override them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from poslab.configuration.spec_files import SpecFiles
from poslab.experiments.tuning.composition import with_rates_of_typed_model
from poslab.experiments.tuning.sweep import Sweep

KEYS = ("question", "train", "space", "objectives", "n_trials", "seeds", "sampler", "pruner")
"""Keys of a sweep file, beside its presets."""


def read_sweep(folder: Path, given: Mapping[str, Any], overrides: Sequence[str]) -> Sweep:
    """Return the sweep of a command line.

    Args:
        folder: of the sweep files.
        given: keys of the command line for the sweep, as of `SpecFiles.chosen`.
        overrides: choices of every trial, as typed.

    Raises:
        ValueError: for an unknown sweep, preset or key, or an invalid value.
    """
    path, preset, node = sweep_files(folder).chosen(given, Sweep)
    name = path.stem if preset is None else f"{path.stem}_{preset}"
    node = {"name": name, **node, "overrides": list(overrides)}
    node = with_rates_of_typed_model(node, overrides)
    node.setdefault("output", f"outputs/sweeps/{node['name']}")
    try:
        return Sweep(**node)
    except ValueError as error:
        raise ValueError(f"{error} (sweep={path.stem})") from error


def sweep_files(folder: Path) -> SpecFiles:
    """Return the sweep files of a folder."""
    return SpecFiles("sweep", folder, KEYS)

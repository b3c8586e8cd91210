"""Runs that a command line names, one by one or by patterns."""

from __future__ import annotations

import glob
from pathlib import Path
from typing import Any


def named_runs(value: Any) -> list[str]:
    """Return the runs of `runs=`: a path or a list, in which `outputs/2026*` stands for all run directories like it.

    Raises:
        ValueError: for something else, a pattern without a run, or a run that is named twice.
    """
    paths = [value] if isinstance(value, str) else value
    if not isinstance(paths, list) or not paths or not all(isinstance(path, str) and path for path in paths):
        raise ValueError(f"runs must name run directories, as in runs=[outputs/A,outputs/B], got {value}")
    found: dict[Path, str] = {}
    for path in paths:
        for run in _matching(path):
            if (place := Path(run).resolve()) in found:
                raise ValueError(f"runs must all be different, got {found[place]} and {run}")
            found[place] = run
    return list(found.values())


def _matching(path: str) -> list[str]:
    if not glob.has_magic(path) or Path(path).exists():
        return [path]
    runs = [run for run in sorted(glob.glob(path)) if (Path(run) / "config.yaml").is_file()]
    if not runs:
        raise ValueError(f"runs={path}: there is no run directory like that")
    return runs

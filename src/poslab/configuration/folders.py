"""The folders of choices and questions that come with Poslab, and those of the user in the current directory."""

from __future__ import annotations

from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]

IS_INSTALLED = (PACKAGE / "conf").is_dir()
"""True in a wheel, whose folders are parts of the package (setup.py); in a checkout they stand at its top."""

_PLACE = PACKAGE if IS_INSTALLED else PACKAGE.parents[1]

CONF = _PLACE / "conf"
"""The choices: a folder for each group, and a file for each command."""

SWEEPS = _PLACE / "sweeps"
COMPARISONS = _PLACE / "comparisons"


def in_current_directory(folder: Path) -> Path | None:
    """Return the user's own folder of the name of one of these; None if there is none, or it is the same."""
    own = Path.cwd() / folder.name
    return own if own.is_dir() and not own.samefile(folder) else None

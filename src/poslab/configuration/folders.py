"""The folders of choices and questions that come with Poslab, and those of the user in the current directory."""

from __future__ import annotations

from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]

IS_INSTALLED = (PACKAGE / "conf").is_dir()
"""True in a wheel, whose folders are parts of the package (setup.py); in a checkout they stand at its top."""

_CHECKOUT = PACKAGE if IS_INSTALLED else PACKAGE.parents[1]

CONF = _CHECKOUT / "conf"
"""The choices: a folder for each group, and a file for each command."""

SWEEPS = _CHECKOUT / "sweeps"
COMPARISONS = _CHECKOUT / "comparisons"

RESULTS, FIGURES = _CHECKOUT / "results", _CHECKOUT / "benchmarks" / "figures"
"""Tables of studies, and figures of the benchmarks: of a checkout alone, since they are too large for a wheel."""


def in_current_directory(folder: Path) -> Path | None:
    """Return the user's own folder of the name of one of these; None if there is none, or it is the same."""
    here = Path.cwd() / folder.name
    return here if here.is_dir() and not here.samefile(folder) else None


def groups() -> list[str]:
    """Return the groups of conf/."""
    return sorted(path.name for path in CONF.iterdir() if path.is_dir())


def choices(group: str) -> list[str]:
    """Return the choices of a group, those of ./conf too; a file that begins with `_` is only a part of others."""
    files = {
        path.relative_to(folder / group).with_suffix("").as_posix()
        for folder in _searched()
        for pattern in ("[!_]*.yaml", "models/[!_]*.yaml", "small/[!_]*.yaml")
        for path in (folder / group).glob(pattern)
        if path.is_file()
    }
    return sorted(files)


def path_of_choice(group: str, choice: str) -> Path:
    """Return the file of a choice; Poslab's goes before the user's."""
    files = [folder / group / f"{choice}.yaml" for folder in _searched()]
    return next(filter(Path.is_file, files), files[0])


def _searched() -> list[Path]:
    """Return the folders of choices that Hydra searches, ./conf too."""
    return [CONF, *filter(None, [in_current_directory(CONF)])]

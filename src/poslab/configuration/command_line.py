"""Commands as typed (how they are started, values, words, lengths), and the folders whose choices they name."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

STARTED_AS = "POSLAB_STARTED_AS"
"""Environment variable with what is before the name of a command as it was typed; its processes inherit it."""

SEVERAL = ("callbacks", "logger")  # groups of which several choices go together: `logger=[tensorboard,csv]`
LENGTH = r"[1-9]\d{0,8}|(?=[\d.]*[1-9])\d{1,9}(\.\d{1,9})?x"  # pattern of a length


def started_as() -> str:
    """Return what is before the name of a command: `poslab `, or `python -m src.`, which needs a checkout."""
    return os.environ.get(STARTED_AS, "poslab " if IS_INSTALLED else "python -m src.")


MODULES = {"inspect": "inspect_positions"}
"""Modules of src/ that are not named as their command: `src/inspect.py` would hide the module of the standard library
where src/ is on the path."""


def poslab_command(name: str, *words: str) -> str:
    """Return the line that runs a command with these words, started as the one that runs."""
    start = started_as()
    return shlex.join([*f"{start}{MODULES.get(name, name) if start.endswith('.') else name}".split(), *words])


def pip_install(extra: str) -> str:
    """Return the line that installs what an extra of Poslab adds."""
    return f"pip install {shlex.quote(f'poslab[{extra}]')}" if IS_INSTALLED else f"pip install -e '.[{extra}]'"


def as_typed(path: str | Path) -> Path:
    """Return a path below the working directory without the part that the user knows."""
    with contextlib.suppress(ValueError):
        return Path(path).relative_to(Path.cwd())
    return Path(path)


def assignment(key: str, value: Any) -> str:
    """Return `key=value`, the value quoted for Hydra where it needs quotes."""
    is_plain = (  # Hydra reads it without quotes as that text, not as a number, null or a list
        isinstance(value, str | Path)
        and re.fullmatch(r"[A-Za-z_./][\w./%+*-]*", str(value), re.ASCII)
        and not re.fullmatch(r"(?i)null|true|false|nan|inf|[\d._e+-]*", str(value))
    )
    return f"{key}={value if is_plain else in_hydras_grammar(value)}"


def key_of(word: str) -> str:
    """Return the key of a word of Hydra's command line, without its value and the signs that add or remove the key."""
    return word.lstrip("+~").partition("=")[0]


def trusting(packages: Sequence[str]) -> list[str]:
    """Return the word that trusts packages, in a list; no word if there are none."""
    return [f"trust={packages[0]}" if len(packages) == 1 else f"trust=[{','.join(packages)}]"] if packages else []


def in_hydras_grammar(value: Any) -> str:
    """Return a value as Hydra reads it on a command line; texts in quotes."""
    if value is None or isinstance(value, bool):
        return str(value).lower().replace("none", "null")
    if isinstance(value, str | Path):
        # Backslashes are literal in Hydra's grammar, except before a quote.
        return "'" + re.sub(r"(\\*)('|$)", lambda x: 2 * x[1] + ("\\'" if x[2] else ""), str(value)) + "'"
    if isinstance(value, list):
        return f"[{','.join(map(in_hydras_grammar, value))}]"
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{key}:{in_hydras_grammar(item)}" for key, item in value.items()) + "}"
    return str(value)


def tokens(length: int | str, trained: int) -> Fraction:
    """Return a length in the unit of `trained`, the training length; a multiple may give a fraction of a token."""
    text = str(length)
    return Fraction(text.removesuffix("x")) * (trained if text.endswith("x") else 1)


def whole_tokens(length: int | str, trained: int) -> int:
    """Return a length in the unit of `trained`, the training length; ValueError for a multiple that is no whole number.

    whole_tokens("0.5x", 64) == 32
    """
    count = tokens(length, trained)
    if count < 1 or count.denominator > 1:
        raise ValueError(
            f"lengths must be whole numbers, and {length} of the training length, {trained:,}, is {float(count):,g}"
        )
    return int(count)


PACKAGE = Path(__file__).resolve().parents[1]

IS_INSTALLED = (PACKAGE / "conf").is_dir()
"""True in a wheel, whose folders are parts of the package (setup.py); in a checkout they are at its top."""

_CHECKOUT = PACKAGE if IS_INSTALLED else PACKAGE.parents[1]

CONF = _CHECKOUT / "conf"  # the choices: a folder for each group, and a file for each command

SWEEPS = _CHECKOUT / "sweeps"
COMPARISONS = _CHECKOUT / "comparisons"

RESULTS, FIGURES = _CHECKOUT / "results", _CHECKOUT / "benchmarks" / "figures"
"""Tables of studies, and numbers of the benchmarks: only in a checkout, since they are too large for a wheel."""


def in_current_directory(folder: Path) -> Path | None:
    """Return the user's own folder of the name of one of these; None if there is none, or it is the same."""
    here = Path.cwd() / folder.name
    return here if here.is_dir() and not here.samefile(folder) else None


def groups() -> list[str]:
    """Return the groups of conf/."""
    return sorted(path.name for path in CONF.iterdir() if path.is_dir())


def choices(group: str) -> list[str]:
    """Return the choices of a group, also from ./conf; a file that starts with `_` is only a part of others."""
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

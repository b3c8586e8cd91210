"""A user's own choices: those of ./conf beside those of Poslab, and of `--config-dir` where Hydra does not read it."""

from __future__ import annotations

import sys
from pathlib import Path

from hydra.core.hydra_config import HydraConfig

from poslab.cli.choices import groups
from poslab.cli.entry_point import COMPLETION
from poslab.cli.words import SEARCHED, config_options, searching
from poslab.configuration.folders import CONF, in_current_directory


def with_own_choices(words: list[str]) -> list[str]:
    """Return a command line of Hydra's that finds the choices of ./conf too, where this folder has any.

    Those of Poslab come first. The folder may be that of any other project: `CheckedLoader` reads only what is named.
    """
    folder = _own_folder(silent=bool(COMPLETION & set(words)))
    if folder is None:
        return words
    if COMPLETION & set(words):  # Hydra completes from the folders of its options alone
        return words if config_options(words)["config_dir"] else ["--config-dir", str(folder), *words]
    return searching(words, folder)


def with_config_dir(words: list[str]) -> list[str]:
    """Return words of a sweep or a comparison with `--config-dir FOLDER` and ./conf as folders that Hydra searches.

    Raises:
        ValueError: for a folder that does not exist.
    """
    words = list(words)
    for option in ("--config-dir", "-cd"):
        while option in words:
            place = words.index(option)
            words[place : place + 2] = [f"--config-dir={''.join(words[place + 1 : place + 2])}"]
    named = [word for word in words if word.startswith("--config-dir=")]
    words = [word for word in words if word not in named]
    for name in (word.partition("=")[2] for word in named):
        if not name or not Path(name).is_dir():
            raise ValueError(f"--config-dir must be followed by a folder of choices, got {name!r}")
        words = searching(words, Path(name).resolve())
    own = _own_folder()
    return words if own is None else searching(words, own)


def searching_words() -> list[str]:
    """Return the words of the running job's command line that name folders which Hydra searches."""
    return [word for word in HydraConfig.get().overrides.hydra if word.startswith(SEARCHED)]


def searched_by_itself(word: str) -> bool:
    """Return whether a word is what `with_own_choices` adds, and will add to the next command in this directory."""
    folder = in_current_directory(CONF)
    return folder is not None and word == searching([], folder)[0]


def _own_folder(silent: bool = False) -> Path | None:
    """Return ./conf if it holds choices of the user's; print which one has the name of one of Poslab's."""
    folder = in_current_directory(CONF)
    if folder is None or not any((folder / group).is_dir() for group in groups()):
        return None
    files = sorted(file.relative_to(folder) for group in groups() for file in (folder / group).glob("*.yaml"))
    taken = next((file for file in files if (CONF / file).is_file()), None)
    if taken is not None and not silent:
        note = f"conf/{taken} is not read, because Poslab has a choice of that name"
        print(f"poslab: {note}", file=sys.stderr, flush=True)
    return folder

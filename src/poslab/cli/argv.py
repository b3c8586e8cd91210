"""The words of a command line before Hydra reads them: options, folders of choices, and keys that may be short."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NoReturn

from hydra._internal.utils import get_args_parser
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override

from poslab.arguments import nearest
from poslab.configuration.command_line import CONF, SEVERAL, assignment, choices, groups, in_current_directory, key_of

SEARCH_PATH = "hydra.searchpath"  # key of the folders that Hydra searches for choices

OPTIONS = ("--help", "--multirun", "--config-dir", "--config-name", "--cfg")
"""Options of which a misspelt one may be meant."""

KEY_VALUE = "; hint: type group=choice or key=value, as in encoding=rotary"


def options_first(arguments: list[str]) -> list[str]:
    """Return a command line with its options before its overrides, as Hydra reads it.

    ValueError for an option that does not exist or that could run code, a key that is given twice, and values that
    Hydra would read as something else.
    """
    parser = get_args_parser()
    parser.error = _raise  # type: ignore[method-assign]  # which would print a usage of eight lines
    known, unknown = parser.parse_known_intermixed_args(arguments)
    if unknown:
        raise ValueError(undashed(unknown[0]))
    if known.experimental_rerun is not None:
        raise ValueError("--experimental-rerun reads a pickle, which can run any code: resume=RUN continues a run")
    if known.config_path is not None:
        raise ValueError("--config-path would replace conf/: --config-dir adds a folder to it")
    refuse_repeated(known.overrides)
    for override in known.overrides:
        validate_overrides(override)
    overrides = list(known.overrides)
    options = [word for word in arguments if word not in overrides or overrides.remove(word)]  # type: ignore[func-returns-value]
    return [*options, *known.overrides]


def _raise(message: str) -> NoReturn:
    raise ValueError(message.removeprefix("argument "))


def undashed(option: str) -> str:
    """Return the message for an option that does not exist."""
    key, equals, value = option.lstrip("-").partition("=")
    without_dashes = f"; hint: did you mean '{key}={value if equals else '...'}', without dashes?"
    near = "" if equals else nearest(key, [name[2:] for name in OPTIONS]).replace("'", "'--", 1)
    listed = f"; hint: the options are {', '.join(OPTIONS)}; choices have no dashes, as in encoding=rotary"
    return f"unknown option {option!r}{near or (without_dashes if option.startswith('--') else listed)}"


def refuse_repeated(words: Iterable[str]) -> None:
    """Raise ValueError for a group or a key that is given twice, of which Hydra would take the last."""
    typed: dict[str, str] = {}
    for word in words:
        if (key := key_of(word)) in typed:
            raise ValueError(f"{key} is given twice, by {typed[key]} and {word}: leave one of them out")
        typed[key] = word


def validate_overrides(override: str) -> None:
    """Raise ValueError for a word whose value Hydra would read as something that no user means."""
    key, equals, value = override.partition("=")
    if not key.strip("+~") and override != "=":  # `encoding = rotary` is reported with its other words
        raise ValueError(f"{override!r} is not key=value{KEY_VALUE}")
    if key == "hydra.run.dir" and equals and not value:
        raise ValueError("hydra.run.dir must name a directory, got nothing")
    group = key.lstrip("+").partition("@")[0]
    if group not in groups():
        return
    if value == "null":
        without = f"{key}=[]" if group in SEVERAL else f"~{key.lstrip('+')}"
        instead = f"{key}=none" if (CONF / group / "none.yaml").is_file() else without
        raise ValueError(f"{key}=null: a group without a choice is written {instead}")
    if value[:1] in ("[", "{") and not (group in SEVERAL and value[0] == "["):
        several = "a list of choices" if group in SEVERAL else "one choice"
        raise ValueError(f"{key} must be {several} of conf/{group}, got {value}")
    is_number = re.fullmatch(r"(?i)true|false|nan|inf|[\d._e+-]+", value)
    if is_number or value[:1] == "/" or ".." in Path(value).parts:
        meant = nearest(Path(value).stem, choices(group), 0.8)
        raise ValueError(f"{key} must be a choice of conf/{group}, got {value}{meant}")


def parsed(words: Iterable[str]) -> list[Override]:
    """Return overrides as Hydra reads them; OverrideParseException for one that it cannot read."""
    return OverridesParser.create().parse_overrides(list(words))


def expand_aliases(words: list[str], keys: list[str]) -> list[str]:
    """Return a command line with keys of a scaling written out: `encoding.factor=4` as `encoding.scaling.factor=4`.

    `keys` are all dotted keys of the configuration that it chooses.
    """

    def expanded(word: str) -> str:
        key, equals, value = word.partition("=")
        parent, _, leaf = key.rpartition(".")
        full_key = f"{parent}.scaling.{leaf}"
        return f"{full_key}{equals}{value}" if equals and key not in keys and full_key in keys else word

    return [expanded(word) for word in words]


def as_sweep(words: list[str]) -> list[str]:
    """Return the command line of several jobs, with the keys of a group that varies in each of the jobs.

    Hydra looks for a key with one value in the default choice, whatever the choices of the jobs: `encoding=t5,deberta
    encoding.num_buckets=64` fails. As a choice among one value it belongs to the jobs.
    """
    known, _ = get_args_parser().parse_known_intermixed_args(words)
    if not known.multirun:
        return words
    overrides = parsed(known.overrides)
    varied = [f"{override.package or override.key_or_group}." for override in overrides if override.is_sweep_override()]
    of_each_job = {
        override.input_line: f"{override.key_or_group}=choice({override.get_value_string()})"
        for override in overrides
        if not override.is_sweep_override() and override.key_or_group.startswith(tuple(varied))
    }
    return [of_each_job.get(word, word) for word in words]


def searching(words: list[str], folder: Path) -> list[str]:
    """Return words by which Hydra searches a folder after those that they name already."""
    typed = [word for word in words if word.startswith(f"{SEARCH_PATH}=")]
    before: Any = parsed(typed[-1:])[0].value() if typed else []
    others = [word for word in words if word not in typed]
    return [*others, assignment(SEARCH_PATH, [*before, f"file://{folder}"])]


def with_user_choices(words: list[str]) -> list[str]:
    """Return a command line of Hydra's that finds the choices of ./conf too, where this folder has any.

    Choices of Poslab come first. The folder may be part of any other project: `CheckedLoader` reads only what is named.
    """
    folder = _user_folder()
    return words if folder is None else searching(words, folder)


def with_config_dir(words: list[str]) -> list[str]:
    """Return words of a sweep or a comparison with `--config-dir FOLDER` and ./conf as folders that Hydra searches.

    ValueError for a folder that does not exist.
    """
    others: list[str] = []
    folders = []
    remaining = iter(words)
    for word in remaining:
        option, equals, name = word.partition("=")
        if option not in ("--config-dir", "-cd"):
            others.append(word)
            continue
        name = name if equals else next(remaining, "")
        if not Path(name).is_dir() or not name:
            raise ValueError(f"--config-dir must be followed by a folder of choices, got {name!r}")
        folders.append(Path(name).resolve())
    for folder in [*folders, *filter(None, [_user_folder()])]:
        others = searching(others, folder)
    return others


def searching_words() -> list[str]:
    """Return the words of the running job's command line that name folders which Hydra searches."""
    return [word for word in HydraConfig.get().overrides.hydra if word.startswith(SEARCH_PATH)]


def _user_folder() -> Path | None:
    """Return ./conf if it has choices of the user; print which one has the name of a choice of Poslab."""
    folder = in_current_directory(CONF)
    if folder is None or not any((folder / group).is_dir() for group in groups()):
        return None
    files = sorted(file.relative_to(folder) for group in groups() for file in (folder / group).glob("*.yaml"))
    taken = next((file for file in files if (CONF / file).is_file()), None)
    if taken is not None:
        note = f"poslab: conf/{taken} is not read, because Poslab has a choice of that name"
        print(note, file=sys.stderr, flush=True)
    return folder

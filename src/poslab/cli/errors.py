"""Errors in one sentence that names the key, the file or the choice, and the nearest that exists."""

from __future__ import annotations

import contextlib
import errno
import re
import shlex
import traceback
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from hydra import compose
from hydra._internal.utils import get_args_parser
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import ConfigCompositionException, HydraException, MissingConfigException, OverrideParseException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from poslab.arguments import nearest_or_list
from poslab.cli.argv import KEY_VALUE, SEARCH_PATH, parsed, searching
from poslab.cli.help import COMMON, choices_with, keys, nearest_key
from poslab.configuration.build import NAMES_IN_PAPERS, nearest, nearest_encoding
from poslab.configuration.command_line import COMPARISONS, CONF, SEVERAL, SWEEPS, choices, groups, poslab_command
from poslab.configuration.labels import OF_THE_ENCODING
from poslab.configuration.outside_files import initialized

USAGE_STATUS = 2
FAILURE_STATUS = 1

RENAMED = {
    "encoding=own": "encoding=pretrained",
    "objective=own": "objective=task",
    "dataset=pictures": "dataset=images",
    "dataset=hub_pictures": "dataset=hub_images",
    "dataset=moving_pictures": "dataset=moving_glyphs",
    "dataset=film_sentiment": "dataset=rotten_tomatoes",
    "dataset=tweet_sentiment": "dataset=tweet_eval",
    "dataset=question_types": "dataset=trec",
    "dataset=movie_dialogue": "dataset=dailydialog",
    "experiment=families/small_pictures": "experiment=families/small_images",
    "encoding.windows": "window of the kinds of model.layers, as in 'model.layers={kinds:[{window:64},{}]}'",
    "encoding.chunks": "chunk of the kinds of model.layers, as in 'model.layers={kinds:[{chunk:64},{}]}'",
    "encoding.temperatures": "temperature of the kinds of model.layers",
    **{f"encoding.{key}": f"{key} of model.layers" for key in ("order", "from_last", "first", "last")},
    "logger=aim": "+logger.aim._target_=aim.pytorch_lightning.AimLogger trust=aim",
}
"""Choices and keys of earlier versions, with what they are now."""

STRAY = " ,;='\"“”‘’„«»"
"""Characters around a value that were not meant, such as a comma after it or quotes of a text editor."""


def explained(error: BaseException, name: str, words: list[str]) -> tuple[str | None, int]:
    """Return one sentence on what a command with these words has raised, and an exit status; None for a bug."""
    if isinstance(error, MissingConfigException | ConfigCompositionException | OverrideParseException):
        return composition_error(error, name, words), USAGE_STATUS
    if isinstance(error, OmegaConfBaseException):
        return _interpolation_error(error), USAGE_STATUS
    if isinstance(error, HydraException | ValueError | UserWarning):
        sentence = " ".join(str(error).split())
        return sentence + _size_hint(sentence, words), USAGE_STATUS
    full, closed = (errno.ENOSPC, errno.EDQUOT, errno.EROFS), (errno.EACCES, errno.ENAMETOOLONG)
    if isinstance(error, OSError) and error.errno in (*full, *closed):
        access = "written" if error.errno in full else "read or written"
        return f"{error.filename or 'the output'} cannot be {access}: {error.strerror}", FAILURE_STATUS
    status = getattr(error, "exit_status", None)
    if status is not None:
        return str(error), status
    if any("hydra_plugins" in frame.filename for frame in traceback.extract_tb(error.__traceback__)):
        launcher = next((word for word in words if word.startswith("hydra/launcher=")), "hydra/launcher")
        return f"{launcher}: {str(error).splitlines()[0]}", FAILURE_STATUS
    return None, FAILURE_STATUS


def composition_error(error: Exception, name: str, words: list[str], own_keys: Iterable[str] = ()) -> str:
    """Return Hydra's error in one sentence, with the nearest choice or key.

    The words are of the command line of a command, which may have its own keys in addition to the keys of a run.
    """
    text = str(error)
    if isinstance(error, MissingConfigException) and error.missing_cfg_file and error.options is not None:
        return _choice_error(error.missing_cfg_file.removeprefix("/"), words, error.options)
    if isinstance(error, OverrideParseException):
        return unreadable(error.override, words, name)
    if sweep := re.search(r"(?:Ambiguous value for argument|Sweep parameters) '([^']+)'", text):
        key, _, values = sweep[1].partition("=")
        takes_list = "(" not in values and (key in SEVERAL or key.partition("@")[0] not in groups())
        as_list = f"; write a list as '{key}=[{values}]'" if takes_list else ""
        runs = poslab_command(name, "-m", sweep[1])
        return f"{sweep[1]} has several values; hint: -m runs them one after another: {runs}{as_list}"
    if missing := re.search(rf"Could not load '((?:{'|'.join(SEVERAL)})/[^']+)'", text):
        return _choice_error(missing[1], words)
    unknown = re.search(
        r"Could not (?:override|delete from config\.|delete) '((?!trainer\.lightning)[^'=@]*)[='.]", text
    )
    if unknown and unknown[1] not in groups():
        return _key_error(unknown[1], name, words, own_keys)
    lists = f"; hint: {poslab_command(name)} --help lists the keys"
    if package := re.match(r"Could not override '(.+@.+)'\.\sDid you mean to override (?:one of )?(.+)\?", text):
        return f"unknown key {package[1]!r}{nearest(package[1], package[2].split(', ')) or lists}"
    if fixed := re.match(r"Could not override '(.+)'\.\sNo match", text):
        return f"{fixed[1]} is not a group of this configuration{lists}"
    if plus := re.match(r"Multiple values for ([^.]+)\.|force-add of config groups.*'\+\+([^=]+)=", text):
        word = next(word for word in words if word.lstrip("+").startswith(f"{plus[1] or plus[2]}="))
        return f"{word} adds a second choice of {plus[1] or plus[2]}; did you mean {word.lstrip('+')!r}?"
    if deleted := re.match(r"Could not delete '((\w+)[^']*)'", text):
        none = f"{deleted[2]}=[] chooses none" if deleted[2] in SEVERAL else f"~{deleted[2]} removes any choice"
        return f"~{deleted[1]} is not a choice of this run; hint: {none}"
    if missing := re.match(r"Error resolving interpolation '(.+)', possible interpolation keys: (.*)", text):
        name = next(x for x in re.findall(r"\$\{([^}]+)\}", missing[1]) if x not in missing[2].split(", "))
        return f"there is no choice of {name} for {missing[1]}; hint: {poslab_command('train')} --help lists the groups"
    cause = error.__cause__
    if isinstance(cause, OmegaConfBaseException):
        return " ".join(f"{text} {_interpolation_error(cause)}".split())
    sentence = re.split(r"\nConfig search path:|\nSee https|\nAvailable options|\n\s*full_key:", text)[0]
    return " ".join(f"{sentence}{f' ({cause})' if cause else ''}".split()) or type(error).__name__


def unreadable(override: str, words: list[str], name: str) -> str:
    """Return the message for a word of a command line that Hydra cannot read as key=value."""
    if "=" not in override:
        position = words.index(override) if override in words else len(words)
        meant = KEY_VALUE if len(override) > 255 else _intended(override, words[position + 1 :], name)
        return f"{override!r} is not key=value{meant}"
    key, _, value = override.partition("=")
    plain, quoted = f"{key}={value.strip(STRAY).replace('−', '-')}", f"{key}='{value}'"
    if plain != override and _is_readable(plain):
        return f"{override!r} cannot be read as key=value; did you mean {plain!r}?"
    rest = words[words.index(override) :] if override in words else []
    joined = [" ".join(rest[:count]) for count in range(2, len(rest) + 1)]  # the shell splits a list at its spaces
    if value[:1] in ("[", "{") and (whole := next(filter(_is_readable, joined), None)):
        return f"{override!r} cannot be read as key=value; did you mean {shlex.quote(whole)}?"
    if key in groups() and value[:1] not in ("[", "{"):
        return _choice_error(f"{key}/{value}", words)
    if not _is_readable(f"{key}=1"):
        return f"{override!r} is not key=value{KEY_VALUE}"
    how = f', as in "{quoted}"' if _is_readable(quoted) else ", and close every quote and bracket"
    return f"{override!r} cannot be read as key=value; hint: quote brackets, commas, spaces and non-ASCII letters{how}"


def _is_readable(word: str) -> bool:
    with contextlib.suppress(HydraException):
        return bool(parsed([word]))
    return False


def _intended(word: str, following: list[str], name: str) -> str:
    """Return `; did you mean ...?` for a word without an equals sign, from what it names."""
    path, (key, colon, value) = Path(word).expanduser(), word.partition(":")
    folders = {"sweep": SWEEPS, "comparison": COMPARISONS}
    kinds = [kind for kind, folder in folders.items() if (folder / f"{path.stem}.yaml").is_file()]
    choice = NAMES_IN_PAPERS.get(path.stem.lower(), path.stem)
    options = sorted(file.parent.name for file in CONF.glob("*/*.yaml") if file.stem == choice)
    is_key = word.partition(".")[0] in groups() and not path.is_file()
    if is_key or following[:1] == ["="]:
        values = [text.lstrip("=") for text in following[:2] if text.lstrip("=") and "=" not in text.lstrip("=")]
        meant = f"{word}={values[0] if values else '...'}"
    elif colon and key in groups():
        meant = f"{key}={value}"
    elif options:
        meant = f"{options[0]}={choice}"
    elif name in kinds:
        meant = f"{name}={path.stem}"
    elif kinds:
        meant = poslab_command(kinds[0].replace("comparison", "compare"), f"{kinds[0]}={path.stem}")
    elif name in ("evaluate", "comparison") and "/" in word and (name == "comparison" or following):
        meant = f"runs=[{','.join([word, *following])}]"
    elif name in ("evaluate", "export", "generate") and (path.exists() or "/" in word):
        meant = f"run={word}"
    elif name == "generate":
        meant = f'prompt="{word}"'
    elif (path / "config.yaml").is_file() or path.suffix == ".safetensors":
        meant = f"resume={word}"
    elif path.is_file():
        meant = f"sweep={word}" if name == "sweep" else f"dataset=text dataset.files={word}"
    else:
        return nearest(word, ["--help"]) or KEY_VALUE
    return f"; did you mean {meant!r}?"


def _choice_error(path: str, words: list[str], known: Iterable[str] = ()) -> str:
    """Return the message for a choice that its group does not have, from its path, such as `encoding/rotry`.

    `known` are Hydra's choices of one of its own groups.
    """
    typed = [word.lstrip("+").partition("=")[0].partition("@")[0] for word in words]
    group = max((key for key in typed if path.startswith(f"{key}/")), key=len, default=path.rpartition("/")[0])
    choice = path.removeprefix(f"{group}/")
    if now := RENAMED.get(f"{group}={choice}"):
        return f"{group}={choice} is now {now}"
    options = choices(group) or list(known)
    lists = f"{poslab_command('train')} --help {group} lists the choices"
    if group == "encoding":
        lists = f"common ones are {COMMON['encoding']}; {lists}"
    if group == "encoding" and choice in choices("temperature"):
        hint = f"; did you mean 'temperature={choice}'?"
    elif group == "experiment" and Path(choice).name in choices("dataset"):
        hint = f"; did you mean 'experiment={Path(choice).parts[0]} dataset={Path(choice).name}'?"
    elif group == "dataset" and Path(choice).is_file():
        hint = f"; did you mean 'dataset=text dataset.files={choice}'?"
    else:
        hint = nearest_encoding(choice, options) or nearest_or_list(Path(choice).stem, options, lists)
    return f"unknown {group} {choice!r}{hint}"


def _key_error(key: str, name: str, words: list[str], own_keys: Iterable[str]) -> str:
    """Return the message for a key that the configuration does not have."""
    if now := RENAMED.get(key):
        return f"{key} is now {now}"
    if owners := choices_with(key):
        if name != "train" and not key.startswith(OF_THE_ENCODING):
            owners = f"; hint: it is a key of {poslab_command('train')}"
        return f"unknown key {key!r} here{owners}"
    near = nearest_key(key, [*own_keys, *known_keys(name, words)])
    return f"unknown key {key!r}{near or f'; hint: {poslab_command(name)} --help lists the keys'}"


def known_keys(name: str, words: list[str]) -> list[str]:
    """Return every group and dotted key of a configuration under the choices of a command line, which may name another.

    One of several values of a choice represents all.
    """
    (options, _), known_groups = get_args_parser().parse_known_intermixed_args(words), groups()
    chosen = [
        word if "=[" in word else word.partition(",")[0]
        for word in words
        if word.partition("=")[0].partition("@")[0] in known_groups
    ]
    chosen += [word for word in words if word.startswith(f"{SEARCH_PATH}=")]
    if options.config_dir is not None:
        chosen = searching(chosen, Path(options.config_dir).resolve())
    GlobalHydra.instance().clear()
    with initialized(CONF):
        try:
            config = OmegaConf.to_container(compose(options.config_name or name, overrides=chosen))
        except (HydraException, OmegaConfBaseException, ValueError):  # another mistake, which is reported next
            return known_groups
    assert isinstance(config, dict)
    return [*known_groups, *_dotted_keys(config)]


def _dotted_keys(config: dict[Any, Any], prefix: str = "") -> Iterator[str]:
    for key, value in config.items():
        yield f"{prefix}{key}"
        if isinstance(value, dict):
            yield from _dotted_keys(value, f"{prefix}{key}.")


def _interpolation_error(error: OmegaConfBaseException) -> str:
    """Return the message for a value that refers to another, without OmegaConf's notes."""
    message = re.split(r"\n\s*full_key: ", str(error))[0]
    key = f"{error.full_key}: " if error.full_key else ""
    return key + " ".join(message.split())


def _size_hint(sentence: str, words: list[str]) -> str:
    """Return a hint for a model without an argument that the group `size` sets; empty for other sentences."""
    argument = re.match(r"model\.(\w+): \S+ has no such argument", sentence)
    if argument is None or f"model.{argument[1]}" not in keys("size", "tiny"):
        return ""
    typed = any(word.lstrip("+").startswith(f"model.{argument[1]}=") for word in words)
    return "" if typed else "; hint: size= sets it: leave that out with ~size"

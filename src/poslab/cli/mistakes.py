"""A user's mistake in one sentence that names the key, the file or the choice, and the nearest that there is."""

from __future__ import annotations

import contextlib
import errno
import re
import shlex
import textwrap
import traceback
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from hydra.errors import ConfigCompositionException, HydraException, MissingConfigException, OverrideParseException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import MarkedYAMLError, YAMLError
from yaml.constructor import ConstructorError

from poslab.cli import choices
from poslab.cli.words import SEARCHED, config_options, searching, unreadable
from poslab.configuration.command_line import SEVERAL, poslab_command
from poslab.configuration.folders import CONF
from poslab.report.sentences import listed

MISTAKE = 2
FAILURE = 1

MAX_LISTED = 90
"""Choices of a group that a mistake lists; there are more datasets, which --help shows by family."""

WIDTH = 80

OTHER_NAMES = {
    "dim": "d_model",
    "width": "d_model",
    "hidden_size": "d_model",
    "n_embd": "d_model",
    "depth": "num_layers",
    "learning_rate": "lr",
    "theta": "base",
    "rope_theta": "base",
    "block_size": "sequence_length",
    "context_length": "sequence_length",
    "epochs": "max_steps",
    "num_epochs": "max_steps",
    "max_epochs": "max_steps",
    "num_train_epochs": "max_steps",
    "lora": "adapt=lora",
    "output": "to hydra.run.dir",
    "output_dir": "output to hydra.run.dir",
}
"""Names that other projects give to last parts of keys, where no part of the name is that of the key: the first of ours
that the command has, or a word to type."""


def explained(error: BaseException, name: str, words: list[str]) -> tuple[str | None, int]:
    """Return one sentence and an exit status; no sentence for what only a bug explains.

    Args:
        error: what was raised.
        name: of the command.
        words: of its command line.
    """
    if isinstance(error, MissingConfigException | ConfigCompositionException | OverrideParseException):
        return composition_mistake(error, name, words), MISTAKE
    if isinstance(error, OmegaConfBaseException):
        return _of_interpolation(error), MISTAKE
    if isinstance(error, MarkedYAMLError):
        return _of_yaml(error), MISTAKE
    if isinstance(error, UnicodeDecodeError) and (file := _not_utf_8(words)) is not None:
        return f"{file} must be UTF-8 text: {error.reason} at byte {error.start}", MISTAKE
    if isinstance(error, UserWarning) and (missing := re.search(r"hydra\.searchpath.*, path=(.*) is not", str(error))):
        return f"hydra.searchpath names {missing[1]!r}, which does not exist (file:///FOLDER, or pkg://MODULE)", MISTAKE
    if isinstance(error, HydraException | ValueError):
        sentence = " ".join(str(error).split())
        return sentence + _of_size(sentence, words), MISTAKE
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES):
        what = "read or written" if error.errno == errno.EACCES else "written"
        return f"{error.filename or 'the output'} cannot be {what}: {error.strerror}", FAILURE
    status = getattr(error, "exit_status", None)
    if status is None and (launcher := _launcher(error, words)) is not None:
        return f"{launcher}: {str(error).splitlines()[0]}", FAILURE
    return (None, FAILURE) if status is None else (str(error), status)


def _launcher(error: BaseException, words: list[str]) -> str | None:
    """Return the word that chooses the launcher of Hydra's which raised an error, for it starts no job; else None."""
    modules = (str(frame.f_globals.get("__name__")) for frame, _ in traceback.walk_tb(error.__traceback__))
    if not any(module.startswith("hydra_plugins.") for module in modules):
        return None
    return next((word for word in words if word.startswith("hydra/launcher=")), "hydra/launcher")


def in_lines(line: str) -> str:
    """Return an error with the list that it ends with, such as `(sweeps: a, b)`, on lines of its own if it is long."""
    found = re.fullmatch(r"(.*) \((\w+: [^()]*, [^()]*)\)", line)
    if found is None or len(line) <= WIDTH:
        return line
    wrapper = textwrap.TextWrapper(WIDTH, initial_indent="  ", subsequent_indent="    ", break_on_hyphens=False)
    return "\n".join([found[1], *wrapper.wrap(found[2])])


def _of_size(sentence: str, words: list[str]) -> str:
    """Return a hint for a model without an argument that the group `size` gives; empty for other sentences."""
    found = re.match(r"model\.(\w+): \S+ has no such argument", sentence)
    if found is None or f"size.{found[1]}" not in choices.keys("size", "tiny"):
        return ""
    if any(word.lstrip("+").startswith(f"model.{found[1]}=") for word in words):
        return ""
    givers = [word for word in words if re.match(r"(size|experiment)=|debug=fast$", word)]
    if givers:
        return f"; {givers[0]} gives it: leave that out"
    in_file = "for good by a line of the model's file (docs/your-own-model.md)"
    return f"; size= gives it: leave that out with ~size, or {in_file}"


def composition_mistake(error: Exception, name: str, words: list[str], own_keys: Iterable[str] = ()) -> str:
    """Return what is wrong with an override, with the nearest choice or key.

    Args:
        error: what Hydra raised.
        name: of the command.
        words: of its command line, of which choices of groups bring in keys.
        own_keys: that it has beside those of a run.
    """
    if isinstance(error, MissingConfigException) and error.missing_cfg_file and error.options is not None:
        return _of_choice(error.missing_cfg_file.removeprefix("/"), list(error.options), words)
    if isinstance(error, OverrideParseException):
        return unreadable(error.override, words, name)
    text = str(error)
    if several := re.search(r"Ambiguous value for argument '([^']+)'", text):
        key, _, values = several[1].partition("=")
        if key in SEVERAL:
            return f"{several[1]}: several choices are a list, such as {key}=[{values}]"
        is_group = key.partition("@")[0] in choices.groups()
        a_list = "" if is_group else f"; a list is written {shlex.quote(f'{key}=[{values}]')}"
        return f"{several[1]}: -m runs several values one after another: {poslab_command(name)} -m {several[1]}{a_list}"
    if missing := re.search(rf"Could not load '((?:{'|'.join(SEVERAL)})/[^']+)'", text):
        return _of_choice(missing[1], [], words)
    if primary := re.search(r"Cannot find primary config '([^']+)'", text):
        return (
            f"--config-name {primary[1]}: there is no such configuration in conf/ or in --config-dir; that of a sweep "
            "is chosen by --config-dir outputs/sweeps/NAME --config-name best"
        )
    if twice := re.search(r"Multiple values for ([\w/@]+)|force-add of config groups[^']*'\+\+([\w/@]+)", text):
        key = twice[1] or twice[2]
        return f"+{key}: a group that has a choice already takes another one without the plus sign: {key}=..."
    if unknown := re.search(r"config group '([^']+)' does not exist", text):
        return f"{unknown[1]}: there is no such group{_nearest_key(unknown[1], choices.groups())}"
    if deleted := re.search(r"Could not delete (?:from config\. )?'([^'=]+)", text):
        if deleted[1] in SEVERAL:
            return f"~{deleted[1]}: a group without a choice is written {deleted[1]}=[]"
        if deleted[1] not in choices.groups():
            return _of_key(deleted[1], text, name, words, own_keys)
    if "Error resolving interpolation '${experiment}" in text:
        words_deleted = [word for word in words if word.startswith("~")]
        return f"{' '.join(words_deleted)} must be left out: the settings of an experiment follow it"
    if (in_file := re.search(r"In '([^']+)': Could not override '(\w+)(@?)", text)) and in_file[2] in choices.groups():
        file, group, is_elsewhere = in_file.groups()
        instead = (
            f"write override /{group}@_global_.{group}" if is_elsewhere else f"choose {group}= on the command line"
        )
        return f"{file}.yaml cannot override {group} in this way: {instead}"
    if override := re.search(r"Could not override '([^']*)'", text):
        return _of_key(override[1], text, name, words, own_keys)
    cause = error.__cause__
    if isinstance(cause, OmegaConfBaseException):
        return " ".join(f"{text} {_of_interpolation(cause)}".split())
    because = f" ({' '.join(str(cause).split())})" if cause else ""
    return (text.strip().splitlines() or [type(error).__name__])[0] + because


def _of_choice(whole: str, options: list[str], words: list[str]) -> str:
    """Return what is wrong with a choice that its group does not have."""
    from poslab.configuration.build import RENAMED, nearest, nearest_encoding

    groups = [word.lstrip("+").partition("=")[0].partition("@")[0] for word in words]
    folder = whole.rpartition("/")[0]
    group = max((own for own in groups if whole.startswith(f"{own}/")), key=len, default=folder)
    choice = whole.removeprefix(f"{group}/")
    typed = next((word for word in words if word.startswith(group) and word.endswith(f"={choice}")), f"{group}=")
    if renamed := RENAMED.get(f"{group}={choice}"):
        return f"{group}={choice} is now {renamed}"
    if group == "encoding" and choice in choices.choices("temperature"):
        instead = f"{typed.partition('=')[0]}=rotary temperature={choice}"
        return f"{group}={choice}: that is a temperature: write {instead}"
    if group == "experiment" and Path(choice).name in choices.choices("dataset"):
        name = "small" if "small" in Path(choice).parts else Path(choice).parts[0]
        return f"experiment={choice}: that is written experiment={name} dataset={Path(choice).name}"
    found = [*(options if group == folder else []), *choices.choices(group)]
    there_are = sorted({option for option in found if not option.rpartition("/")[2].startswith("_")})
    listed = f"choices: {', '.join(there_are)}"
    if len(there_are) > MAX_LISTED:
        listed = f"{len(there_are)} choices: {poslab_command('train')} --help {group} lists them"
    near = nearest_encoding if group == "encoding" else nearest
    meant = near(choice, there_are) or near(Path(choice).stem, there_are)
    if group == "dataset" and Path(choice).is_file():
        meant = f"; did you mean 'dataset=text dataset.files={choice}'?"
    return f"{group}={choice}: there is no such choice{meant} ({listed})"


def _of_key(typed: str, text: str, name: str, words: list[str], own_keys: Iterable[str]) -> str:
    """Return what is wrong with a key that the configuration does not have."""
    key, place, _ = typed.partition("@")
    if not key:
        return f"'{typed}=...' must begin with a key, as in encoding=rotary"
    options = config_options(words)
    if options["config_name"] is not None and key in choices.groups():
        return (
            f"{typed}: --config-name {options['config_name']} is a whole configuration, which has no choice of {key}: "
            "set single keys, such as trainer.max_steps=4"
        )
    if place:
        places = re.findall(r"[\w.]+@[\w.]+", text.splitlines()[1])
        return f"{typed}: there is no such place for {key} here{_nearest_key(typed, places)}"
    if key in choices.groups():
        return f"{typed}: {poslab_command(name)} has no choice of {key}"
    if key.startswith("trainer.lightning."):
        return f"{key}: an argument of Lightning's is written with a plus sign: +{key}=..."
    if elsewhere := choices_with(key):
        return f"{key}: there is no such key here; it is one of {_first_of(elsewhere)}"
    return f"{key}: there is no such key{_nearest_key(key, [*own_keys, *known_keys(name, words)])}"


def _of_interpolation(error: OmegaConfBaseException) -> str:
    """Return what is wrong with a value that refers to another, without OmegaConf's notes."""
    message = re.split(r"\n\s*full_key: ", str(error))[0]
    key = f"{error.full_key}: " if error.full_key else ""
    return key + " ".join(message.split())


def _of_yaml(error: MarkedYAMLError) -> str:
    """Return where a YAML file is broken."""
    # A quote or a bracket that is never closed is a problem at the end of the file, and a mistake where it begins.
    first, second = error.context_mark, error.problem_mark
    mark = (second or first) if isinstance(error, ConstructorError) else (first or second)
    problem = error.problem or "it cannot be read"
    if "'\\t'" in problem:
        problem = "a tab, where YAML takes only spaces"
    if mark is None:
        return f"YAML cannot be read: {problem}"
    context = f" {error.context}" if error.context else ""
    return f"{as_typed(mark.name)}, line {mark.line + 1}, column {mark.column + 1}: {problem}{context}"


def as_typed(path: str | Path) -> Path:
    """Return a path below the working directory without the part that the user knows."""
    with contextlib.suppress(ValueError):
        return Path(path).relative_to(Path.cwd())
    return Path(path)


def _not_utf_8(words: list[str]) -> Path | None:
    """Return a file of the configuration that is not UTF-8; None where all are."""
    typed = [path for word in words for path in re.findall(r"file://([^],]+)", word)]
    for folder in (CONF, *map(Path, typed), Path(config_options(words)["config_dir"] or CONF)):
        for file in folder.rglob("*.yaml"):
            try:
                file.read_text(encoding="utf-8")
            except UnicodeDecodeError:
                return file
    return None


def _first_of(names: list[str]) -> str:
    """Return the first of many names in words."""
    return listed(names if len(names) < 7 else [*names[:3], "others"])


def choices_with(key: str) -> list[str]:
    """Return the choices, as `group=choice`, that have a key: `dataset.files` is one of `dataset=text`."""
    group, _, rest = key.partition(".")
    found = []
    for choice in choices.choices(group) if rest else []:
        with contextlib.suppress(YAMLError, ValueError, OSError, RecursionError):  # broken, and not what this is about
            if key in choices.keys(group, choice):
                found.append(f"{group}={choice}")
    return found


def _nearest_key(typed: str, keys: Iterable[str]) -> str:
    """Return `; did you mean 'optimizer.lr'?` for the key nearest to one, be it by its last part (`lr`, `steps`)."""
    from poslab.configuration.build import nearest

    keys, last = list(keys), typed.rpartition(".")[2]
    by_last_part = {key.rpartition(".")[2]: key for key in reversed(keys)}
    for name in (last, *OTHER_NAMES.get(last, "").split()):
        if name in by_last_part or "=" in name or "." in name:
            return f"; did you mean {by_last_part.get(name, name)!r}?"
    having_it = [key for part, key in by_last_part.items() if last in part.split("_")]
    return f"; did you mean {min(having_it, key=len)!r}?" if having_it else nearest(typed, keys)


def known_keys(name: str, words: list[str]) -> list[str]:
    """Return every group and dotted key of a configuration under the choices of a command line.

    Args:
        name: of the configuration, unless the command line chooses another.
        words: of the command line; one of several values of a choice stands for all.
    """
    from hydra import compose
    from hydra.core.global_hydra import GlobalHydra

    from poslab.configuration.outside_files import initialized

    options = config_options(words)
    groups = choices.groups()
    chosen = [
        word if "=[" in word else word.partition(",")[0]
        for word in words
        if word.partition("=")[0].partition("@")[0] in groups
    ]
    chosen += [word for word in words if word.startswith(f"{SEARCHED}=")]
    if options["config_dir"] is not None:
        chosen = searching(chosen, Path(options["config_dir"]).resolve())
    GlobalHydra.instance().clear()
    with initialized(CONF):
        try:
            config = OmegaConf.to_container(compose(options["config_name"] or name, overrides=chosen))
        except (HydraException, OmegaConfBaseException, ValueError):  # another mistake, which is reported next
            return groups
    assert isinstance(config, dict)
    return [*groups, *_dotted_keys(config)]


def _dotted_keys(config: dict[Any, Any], prefix: str = "") -> Iterator[str]:
    for key, value in config.items():
        yield f"{prefix}{key}"
        if isinstance(value, dict):
            yield from _dotted_keys(value, f"{prefix}{key}.")

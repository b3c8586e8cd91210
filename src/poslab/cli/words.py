"""The words of a command line before Hydra reads them: mistakes of typing, and keys that may be written short."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any, NoReturn

from hydra._internal.utils import get_args_parser
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException

from poslab.arguments import nearest
from poslab.cli.choices import groups
from poslab.configuration.command_line import SEVERAL, assignment, key_of, poslab_command
from poslab.configuration.folders import CONF, SWEEPS

SEARCHED = "hydra.searchpath"
"""Key of the folders that Hydra searches for choices."""

OPTIONS = ("--help", "--multirun", "--config-dir", "--config-name", "--cfg")
"""Options of which a misspelt one may be meant."""

ASCII_PUNCTUATION = str.maketrans("“”„‘’‚−–—＝，：［］｛｝（）．　", "\"\"\"'''---=,:[]{}().\x20")
"""Characters that word processors, web pages and Chinese keyboards write for those of a command line."""


def options_first(arguments: list[str]) -> list[str]:
    """Return a command line with its options before its overrides, as Hydra reads it.

    Raises:
        ValueError: for an option that there is not or that could run code, spaces around an equals sign, a key that is
            given twice, and the like.
    """
    parser = get_args_parser()
    parser.error = _refuse  # type: ignore[method-assign]  # which would print a usage of eight lines
    known, unknown = parser.parse_known_intermixed_args(arguments)
    if unknown:
        raise ValueError(undashed(unknown[0], arguments))
    if known.experimental_rerun is not None:
        raise ValueError("--experimental-rerun reads a pickle, which can run any code: resume=RUN continues a run")
    if known.config_path is not None:
        raise ValueError("--config-path would replace conf/: --config-dir adds a folder to it")
    refuse_spaces(known.overrides)
    refuse_repeated(known.overrides)
    for override in known.overrides:
        validate_overrides(override, "; -m {key}=A,B runs several one after another")
    overrides = list(known.overrides)
    options = [word for word in arguments if word not in overrides or overrides.remove(word)]  # type: ignore[func-returns-value]
    return [*options, *known.overrides]


def _refuse(message: str) -> NoReturn:
    raise ValueError(message.removeprefix("argument "))


def undashed(option: str, arguments: list[str]) -> str:
    """Return what is wrong with an option that there is not."""
    key, equals, value = option.lstrip("-").partition("=")
    if not equals and (meant := nearest(option, OPTIONS)):
        return f"{option}: there is no such option{meant}"
    if not equals:
        following = arguments[arguments.index(option) + 1 :][:1]
        value = following[0] if following and "=" not in following[0] and following[0][0] != "-" else "..."
    instead = f"choices are typed without dashes: {key}={value}" if len(key) > 1 else "--help lists what there is"
    return f"{option}: there is no such option; {instead}"


def refuse_spaces(words: list[str]) -> None:
    """Raise ValueError for spaces around an equals sign, at which the shell ends words."""
    for number, (word, following) in enumerate(pairwise([*words, ""])):
        if following and not following.strip("="):
            joined = f"{word}={''.join(words[number + 2 : number + 3])}"
        elif ("=" not in word and following.startswith("=")) or (
            word.endswith("=") and word != "=" and following and "=" not in following
        ):
            joined = word.rstrip("=") + "=" + following.lstrip("=")
        else:
            continue
        raise ValueError(f"there must be no spaces around an equals sign: write {shlex.quote(joined)}")


def refuse_repeated(words: Iterable[str]) -> None:
    """Raise ValueError for a group or a key that is given twice, of which Hydra would take the last."""
    typed: dict[str, str] = {}
    for word in words:
        if (key := key_of(word)) in typed:
            raise ValueError(f"{key} is given twice, by {typed[key]} and {word}: leave one of them out")
        typed[key] = word


def validate_overrides(override: str, to_have_several: str = "") -> None:
    """Raise ValueError for values at which Hydra fails, or which it reads as something that nobody means.

    Args:
        override: a word of the command line.
        to_have_several: the end of the sentence for a list of choices where one is wanted, with a place for the key.
    """
    key, _, value = override.partition("=")
    if key == "hydra.run.dir" and not value:
        raise ValueError("hydra.run.dir must name a directory, got nothing")
    group = key.lstrip("+").partition("@")[0]
    if group not in groups():
        return
    if value == "null":
        without = f"{key}=[]" if group in SEVERAL else f"~{key.lstrip('+')}"
        instead = f"{key}=none" if (CONF / group / "none.yaml").is_file() else without
        raise ValueError(f"{key}=null: a group without a choice is written {instead}")
    if value[:1] in ("[", "{") and not (group in SEVERAL and value[0] == "["):
        if group in SEVERAL:
            raise ValueError(f"{key} must be a list of choices of conf/{group}, such as {key}=[A,B], got {value}")
        raise ValueError(f"{key} must be one choice of conf/{group}, got {value}{to_have_several.format(key=key)}")
    if ".." in Path(value).parts:
        raise ValueError(f"{key} must be a choice of conf/{group}, got {value}")


def parsed(words: Iterable[str]) -> list[Override]:
    """Return overrides as Hydra reads them; OverrideParseException for one that it cannot read."""
    overrides: list[Override] = OverridesParser.create().parse_overrides(list(words))
    return overrides


def searching(words: list[str], folder: Path) -> list[str]:
    """Return words by which Hydra searches a folder after those that they name already."""
    typed = [word for word in words if word.startswith(f"{SEARCHED}=")]
    before: Any = parsed(typed[-1:])[0].value() if typed else []
    others = [word for word in words if word not in typed]
    return [*others, assignment(SEARCHED, [*before, f"file://{folder}"])]


def unreadable(override: str, words: list[str], name: str) -> str:
    """Return what is wrong with a word that Hydra cannot read as key=value, and what to write instead.

    Args:
        override: the word.
        words: the whole command line.
        name: of the command.
    """
    on_a_keyboard = override.translate(ASCII_PUNCTUATION)
    if on_a_keyboard != override and _can_be_read(on_a_keyboard):
        odd = "".join(dict.fromkeys(c for c in override if c.translate(ASCII_PUNCTUATION) != c))
        return f"{override} holds {odd}, which no keyboard's command line has: write {shlex.quote(on_a_keyboard)}"
    place = words.index(override) if override in words else len(words)
    if "=" not in override:
        return f"{override!r} is not key=value{_meant(override, next(iter(words[place + 1 :]), '='), name)}"
    for end in range(place + 2, len(words) + 1):
        joined = " ".join(words[place:end])
        if _can_be_read(joined):
            return f"{override} ends at a space of the shell: write {shlex.quote(joined)}"
    apart = override.split()
    if len(apart) > 1 and all(
        one.partition(".")[0].partition("=")[0] in groups() and _can_be_read(one) for one in apart
    ):
        return f"{override!r} is {len(apart)} words in one pair of quotes: write {' '.join(apart)}"
    key, _, value = override.partition("=")
    if not _can_be_read(f"{key}=x"):
        meant = nearest(key, groups())
        return f"{key!r} cannot be a key: keys have English letters, digits, dots and underscores{meant}"
    if value.rstrip("]})").endswith(","):
        return f"{override} ends with a comma: leave it out, or write what follows it"
    mistake = (
        f"{override!r} cannot be read as key=value: quote what holds brackets, commas, spaces or non-ASCII letters"
    )
    if set(value) & set("'\"$`\\!"):  # quotes and braces that are not closed: who can tell where they should be?
        return f"{mistake}, and close every quote and brace"
    if value[:1] == "[" and value[-1:] == "]":
        quoted = _in_quotes(key, value[1:-1].split(","))
        return f'{mistake}, as in "{quoted}"' if _can_be_read(quoted) else mistake
    return f"{mistake}, as in \"{key}='{value}'\""


def _in_quotes(key: str, items: Iterable[str]) -> str:
    """Return key=[...] with quotes around each item of the list that Hydra cannot read without."""
    words = (item.strip() for item in items)
    return f"{key}=[{','.join(word if _can_be_read(f'{key}=[{word}]') else repr(word) for word in words)}]"


def check_figure_width(width: Any) -> None:
    """Raise ValueError for a `figure.width` that is neither None nor inches that a picture can have."""
    if width is not None and (isinstance(width, bool) or not isinstance(width, int | float) or not 3 <= width <= 20):
        raise ValueError(f"figure.width must be inches, between 3 and 20, got {width!r}")


def _meant(word: str, following: str, name: str) -> str:
    """Return `; did you mean ...?` for a word, from what it names."""
    stem, path = Path(word).stem, Path(os.path.expanduser(word))
    choices = sorted(file for file in CONF.glob("*/*.yaml") if file.stem == stem)
    key, colon, value = word.partition(":")
    is_file = path.suffix == ".yaml" or path.is_file()
    if word.partition(".")[0] in groups() and not is_file:  # also a key, such as encoding.base
        meant = [f"{word}={'...' if '=' in following else following}"]
    elif colon and key in groups():
        meant = [f"{key}={value}"]
    elif choices:
        meant = [f"{choices[0].parent.name}={stem}"]
    elif (SWEEPS / f"{stem}.yaml").is_file():
        meant = [f"sweep={stem}"] if name == "sweep" else [poslab_command("sweep", f"sweep={stem}")]
    elif name in ("evaluate", "export", "generate") and (path.exists() or "/" in word):
        meant = [f"run={word}"]
    elif name == "generate":
        meant = [f'prompt="{word}"']
    elif (path / "config.yaml").is_file() or path.suffix == ".ckpt":
        meant = [f"resume={word}", f"init_from={word}"]
    elif path.is_file() and name == "sweep":
        meant = [f"sweep={word}"]
    elif path.is_file():
        meant = [f"dataset=text dataset.files={word}"]
    elif word.strip("?-") in ("", "h", "help"):
        meant = ["--help"]
    else:
        return ""
    return f"; did you mean {' or '.join(map(repr, meant))}?"


def _can_be_read(word: str) -> bool:
    try:
        parsed([word])
    except HydraException:
        return False
    return "=" in word


def expand_aliases(words: list[str], keys: list[str]) -> list[str]:
    """Return a command line with keys of a scaling written out: `encoding.factor=4` as `encoding.scaling.factor=4`.

    Args:
        words: of the command line.
        keys: all dotted keys of the configuration that it chooses.
    """

    def in_full(word: str) -> str:
        key, equals, value = word.partition("=")
        parent, _, leaf = key.rpartition(".")
        whole = f"{parent}.scaling.{leaf}"
        return f"{whole}{equals}{value}" if equals and key not in keys and whole in keys else word

    return [in_full(word) for word in words]


def as_sweep(words: list[str]) -> list[str]:
    """Return the command line of several jobs, with the keys of a group that varies held by each of the jobs.

    Hydra looks for a key with one value in the default choice, whatever the choices of the jobs: `encoding=t5,deberta
    encoding.num_buckets=64` fails. As a choice among one value it belongs to the jobs.
    """
    known, _ = get_args_parser().parse_known_intermixed_args(words)
    if not known.multirun:
        return words
    overrides = parsed(known.overrides)
    varied = [f"{override.package or override.key_or_group}." for override in overrides if override.is_sweep_override()]
    held = {
        override.input_line: f"{override.key_or_group}=choice({override.get_value_string()})"
        for override in overrides
        if not override.is_sweep_override() and override.key_or_group.startswith(tuple(varied))
    }
    return [held.get(word, word) for word in words]


def config_options(words: list[str]) -> dict[str, Any]:
    """Return the options that say where configurations are: `config_name` and `config_dir`, None where not given."""
    known, _ = get_args_parser().parse_known_intermixed_args(words)
    return {"config_name": known.config_name, "config_dir": known.config_dir}

"""Help of the commands (groups, choices, parts, keys), from the choices of conf/ as their YAML files describe them."""

from __future__ import annotations

import difflib
import re
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from itertools import dropwhile, takewhile
from pathlib import Path
from typing import Any

import yaml
from hydra import compose
from omegaconf import OmegaConf

from poslab.cli.argv import with_user_choices
from poslab.configuration.build import nearest
from poslab.configuration.command_line import CONF, as_typed, choices, path_of_choice, poslab_command
from poslab.configuration.outside_files import initialized
from poslab.configuration.spec_files import SpecFiles
from poslab.evaluation import parts
from poslab.io.files import LOADER, read_yaml

WIDTH = 80
INDENT = "    "

USER_CHOICES = "./conf and --config-dir FOLDER hold choices of your own, after those of Poslab."


def train_help(words: list[str]) -> str:
    """Return the help of `train` for the other words of a command line.

    Args:
        words: groups, whose choices are listed; or overrides, under which every key is shown.

    Raises:
        ValueError: for a group that does not exist.
    """
    if asked := [word for word in words if "=" not in word and not word.startswith("-")]:
        return "\n".join(line for group in asked for line in _choices(group))
    with initialized(CONF):
        config = compose("train", overrides=with_user_choices([word for word in words if "=" in word]))
    lines = [
        "Poslab trains a transformer under a positional encoding:",
        f"  {poslab_command('train')} encoding=rotary",
        "",
        "Groups (group=choice); --help GROUP lists the choices of one:",
        *table(meanings().items()),
        "",
        "Datasets by task (--help dataset says what they are):",
    ]
    for name, datasets in _by_family():
        lines += [f"  {name}", *_indented(", ".join(datasets))]
    lines += [
        "",
        f"Every key (key=value), which the file of its choice in {as_typed(CONF)}/ explains:",
        *(f"  {line}" for line in OmegaConf.to_yaml(config).splitlines()),
        "",
        "-m runs every combination of choices with commas between:",
        f"  {poslab_command('train')} -m encoding=rotary,alibi seed=1,2",
        "--cfg job shows a configuration without running it.",
        USER_CHOICES,
    ]
    return "\n".join(lines)


def evaluate_help(words: list[str]) -> str:
    """Return the help of `evaluate`; arguments and errors as of `train_help`."""
    if any("=" not in word and not word.startswith("-") for word in words):
        return train_help(words)
    return "\n".join(
        [
            "Poslab evaluates a trained run:",
            f"  {poslab_command('evaluate')} run=outputs/RUN",
            "",
            "Parts (parts=[extrapolation,attention]), all of them without a choice:",
            *table(parts.meanings().items()),
            "",
            *_keys_of_command("evaluate"),
            "",
            "encoding@swap=none replaces the encoding of a run at test time.",
            "A pretrained model before any training, on the data that dataset= chooses:",
            f"  {poslab_command('evaluate')} model.path=DIR encodings=[pretrained,yarn,none]",
        ]
    )


def generate_help(words: list[str]) -> str:
    """Return the help of `generate`."""
    first = "Poslab continues or answers a text with a trained model:"
    example = f'  {poslab_command("generate")} run=outputs/RUN prompt="A list is"'
    return "\n".join([first, example, "", *_keys_of_command("generate"), "", "-m seed=1,2,3 makes several texts."])


def export_help(words: list[str]) -> str:
    """Return the help of `export`."""
    first = "Poslab writes a trained run for transformers:"
    example = f"  {poslab_command('export')} run=outputs/RUN to=my-model"
    return "\n".join([first, example, "", *_keys_of_command("export")])


def questions_help(first: str, run: str, own_keys: Mapping[str, str], files: SpecFiles) -> str:
    """Return the help of `sweep` or `compare`.

    Args:
        first: its first line.
        run: what it trains: a run or a trial.
        own_keys: its own keys with their meaning.
        files: of its questions.
    """
    lines = [first, "", f"Keys of a {files.kind}:", *table(own_keys.items())]
    lines += ["", f"All other keys are those of {poslab_command('train')}, for every {run}.", USER_CHOICES]
    lines += ["", f"{files.kind.capitalize()}s:"]
    for name in files.names():
        lines += [f"  {name}", *_indented(files.question(name))]
    return "\n".join(lines)


def _keys_of_command(name: str) -> Iterator[str]:
    """Yield the keys of a command, each with the first sentence of its comment."""
    yield f"Keys (key=value), which {as_typed(CONF / name)}.yaml explains in full:"
    keys = keys_of(CONF / f"{name}.yaml")
    yield from table((key, first_sentence(comment)) for key, comment in keys.items() if comment and key != "hydra")


def _choices(group: str) -> Iterator[str]:
    """Yield the choices of a group with what each is, those of datasets by family."""
    if group not in meanings():
        of_choices = {choice: f"{each}={choice}" for each in reversed(meanings()) for choice in choices(each)}
        matches = difflib.get_close_matches(group, of_choices, n=1)
        meant = f"; did you mean '--help {of_choices[matches[0]]}'?" if matches else ""
        raise ValueError(f"{group}: there is no such group{nearest(group, meanings()) or meant}")
    yield from textwrap.wrap(f"{group}: {meanings()[group]}", WIDTH)
    for name, options in _by_family() if group == "dataset" else [("", choices(group))]:
        if name:
            yield from ("", name)
        yield from table((choice, description(group, choice)) for choice in options)
    yield from ("", f"{as_typed(CONF / group)}/CHOICE.yaml explains the keys of a choice.")


def _by_family() -> Iterator[tuple[str, list[str]]]:
    """Yield each family of datasets in words, with its datasets."""
    families: dict[str, list[str]] = {}
    for dataset in choices("dataset"):
        families.setdefault(family(dataset), []).append(dataset)
    for name, datasets in sorted(families.items()):
        has_head = (CONF / "dataset" / f"_{name}.yaml").is_file()
        yield f"{name}: {description('dataset', f'_{name}')}" if has_head else name or "others", datasets


def _indented(text: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent=INDENT, subsequent_indent=INDENT)


def table(rows: Iterable[tuple[str, str]]) -> Iterator[str]:
    """Yield each name and what it means, in lines of at most `WIDTH` characters."""
    rows = list(rows)
    wide = max(len(name) for name, _ in rows)
    for name, meaning in rows:
        first, after = f"  {name:<{wide}}  ", " " * (wide + 4)
        yield from textwrap.wrap(meaning, WIDTH, initial_indent=first, subsequent_indent=after) or [first.rstrip()]


FAMILY = "override /family@_global_.family"
"""Entry of the defaults list of a dataset's file that names its family."""


def meanings() -> dict[str, str]:
    """Return what each group of a run is, as the defaults list of conf/train.yaml says, with the default choice."""
    text = (CONF / "train.yaml").read_text(encoding="utf-8")
    lines = re.findall(r"^  - (\w+): ([\w\[\], ]+?) +# (.*)", text, re.MULTILINE)
    return {group: f"{meaning} (default: {choice})" for group, choice, meaning in lines}


def description(group: str, choice: str) -> str:
    """Return the first sentence of the comment that a file begins with."""
    lines = _lines(path_of_choice(group, choice).read_text(encoding="utf-8"))
    comment = takewhile(lambda line: line.startswith("#"), dropwhile(lambda line: not line, lines))
    return first_sentence(" ".join(line.lstrip("# ") for line in comment))


def _lines(text: str) -> list[str]:
    """Return the lines of a file, in which Hydra's directive of a package is empty."""
    return ["" if line.startswith("# @package") else line for line in text.splitlines()]


def first_sentence(comment: str) -> str:
    """Return the first sentence of a comment, without its full stop."""
    return re.split(r"\. (?=[A-Z(])", comment)[0].rstrip(".")


def family(dataset: str) -> str:
    """Return the family of a dataset, such as `classes`; empty without one. conf/dataset/_classes.yaml describes it.

    The family in a file goes before that of the files that it begins with, as in Hydra.
    """
    defaults = (default for file in _parts("dataset", dataset) for default in _defaults(file))
    names = [str(default[FAMILY]) for default in defaults if isinstance(default, dict) and FAMILY in default]
    return names[-1] if names else ""


def keys(group: str, choice: str) -> dict[str, str]:
    """Return the keys of a choice, dotted from the group on, each with the comment above it.

    A choice has those of the files of its group that it begins with, too. Raises YAMLError for a broken file.
    """
    comments: dict[str, str] = {}
    for file in _parts(group, choice):
        for key, comment in keys_of(file).items():
            comments[f"{group}.{key}"] = comment or comments.get(f"{group}.{key}", "")
    return comments


def keys_of(file: Path) -> dict[str, str]:
    """Return the dotted keys of a choice's file, each with the comment above it; YAMLError or ValueError if broken."""
    if not file.is_relative_to(CONF):
        read_yaml(file)  # a few aliases of a stranger's can stand for terabytes
    text = file.read_text(encoding="utf-8")
    node = yaml.compose(text, LOADER)
    return dict(_keys(node, "", _lines(text))) if isinstance(node, yaml.MappingNode) else {}


def _parts(group: str, choice: str) -> Iterator[Path]:
    """Yield the files of the same group that the file of a choice begins with, and it itself."""
    file = path_of_choice(group, choice)
    for default in _defaults(file):
        if isinstance(default, str) and default != "_self_":
            yield from _parts(group, default)
    yield file


def _defaults(file: Path) -> list[Any]:
    content = yaml.load(file.read_text(encoding="utf-8"), LOADER)
    return content.get("defaults", []) if isinstance(content, dict) else []


def _keys(node: yaml.MappingNode, prefix: str, lines: list[str]) -> Iterator[tuple[str, str]]:
    for key, value in node.value:
        if key.value in ("_target_", "_partial_", "defaults"):
            continue
        above = key.start_mark.line
        while lines[above - 1].lstrip().startswith("#"):
            above -= 1
        yield f"{prefix}{key.value}", " ".join(line.lstrip(" #") for line in lines[above : key.start_mark.line])
        if isinstance(value, yaml.MappingNode):
            yield from _keys(value, f"{prefix}{key.value}.", lines)

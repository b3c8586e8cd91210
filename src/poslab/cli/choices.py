"""The choices of conf/ as their YAML files describe them: what each is, and its keys with their comments."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import dropwhile, takewhile
from pathlib import Path
from typing import Any

import yaml

from poslab.configuration.command_line import CONF, path_of_choice
from poslab.io.files import LOADER, read_yaml

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

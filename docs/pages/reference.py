"""Builds the pages reference/ of the site: the commands, every file of conf/ with its keys, and the Python interface.

All of it is read from the comments of conf/, sweeps/ and comparisons/, from the keys of the commands, and from what
the packages export.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from poslab.cli import compare, sweep
from poslab.cli.help import keys, keys_of, meanings
from poslab.configuration.command_line import groups
from poslab.evaluation import parts
from poslab.io.files import LOADER
from poslab.report.text import markdown_table

DOCS = Path(__file__).resolve().parents[1]
FOLDER = Path("reference")
CONF, COMPARISONS, SWEEPS, SRC = (DOCS.parent / name for name in ("conf", "comparisons", "sweeps", "src"))

PACKAGES = {
    "poslab": ("Runs and pretrained models", "poslab"),
    "encodings": ("Encodings", "poslab.encodings"),
    "attention": ("Attention", "poslab.attention"),
    "models": ("Models", "poslab.models"),
    "evaluation": ("Evaluation", "poslab.evaluation"),
    "testing": ("Testing", "poslab.testing"),
}
"""Pages of the Python interface: title and package, whose exports are shown, or what `FUNCTIONS` names of it."""

FUNCTIONS = {
    "poslab.evaluation": (
        "opening.open_run",
        "extrapolation.extrapolate",
        "extrapolation.extrapolation_figures",
        "attention.statistics.attention_statistics",
        "attention.statistics.attention_by_distance",
        "attention.maps.attention_maps",
        "learned_bias.learned_bias",
        "parts.receptive_field.receptive_field",
        "parts.rotary.rotary_diagnostics",
    )
}
"""Functions for notebooks, in the modules of a package."""

OPTIONS = {
    "--help": "usage and common keys; `--help GROUP` lists choices, `--help CHOICE` explains it, `--help all` all keys",
    "-m": "run every combination of choices with commas between: `-m encoding=rotary,alibi seed=1,2`",
    "--cfg job": "print the configuration, and do nothing else",
    "--config-dir DIR": "your own choices in addition to `conf/`; in another folder, `./conf` is found by itself",
    "--config-name NAME": "with `--config-dir`: the file to start from, such as `best` of a sweep (`src.train`)",
}


def pages() -> dict[Path, str]:
    """Return the text of each page, by its path in the site."""
    made = {FOLDER / "commands.md": _commands(), FOLDER / "configuration.md": _configuration()}
    made |= {FOLDER / "conf" / f"{group}.md": _group(group) for group in groups()}
    made |= {FOLDER / "api" / f"{name}.md": _package(*package) for name, package in PACKAGES.items()}
    return {path: "\n\n".join(blocks) + "\n" for path, blocks in made.items()}


# Commands


def _commands() -> Iterator[str]:
    yield "# Commands"
    yield (
        "Every command takes `key=value`. Each key may be given once. `--help` prints the same as here, and shorter. "
        "A mistyped key or value ends the command with one sentence and the nearest match."
    )
    yield markdown_table(["option", "what it does"], ((f"`{option}`", meaning) for option, meaning in OPTIONS.items()))
    yield "## src.train"
    yield _docstring(SRC / "train.py")
    yield "Groups are chosen by `group=choice`, and every key of a choice is set by `group.key=value`:"
    yield markdown_table(
        ["group", "what it chooses"], ((f"[`{group}`](conf/{group}.md)", text) for group, text in meanings().items())
    )
    yield from _keys_of_command("train")
    yield "## src.evaluate"
    yield _docstring(SRC / "evaluate.py")
    yield from _keys_of_command("evaluate")
    yield "Parts of an evaluation, for `parts=[...]`:"
    yield markdown_table(["part", "what it shows"], ((f"`{part}`", text) for part, text in parts.meanings().items()))
    yield "## src.generate"
    yield _docstring(SRC / "generate.py")
    yield from _keys_of_command("generate")
    yield "## src.export"
    yield _docstring(SRC / "export.py")
    yield from _keys_of_command("export")
    for name, own, folder, skipped in (
        ("sweep", sweep.OWN_KEYS, SWEEPS, {"defaults"}),
        ("compare", compare.OWN_KEYS, COMPARISONS, set()),
    ):
        yield f"## src.{name}"
        yield _docstring(SRC / f"{name}.py")
        yield markdown_table(["key", "meaning"], ((f"`{key}`", meaning) for key, meaning in own.items()))
        yield "All other keys belong to `src.train`, for every run."
        yield markdown_table(["file", "question"], _questions(folder, skipped))
    yield "## src.explore"
    yield _docstring(SRC / "explore.py")
    yield "`to=PATH` is the file of the page; without it, `outputs/explorer.html`."


def _docstring(file: Path) -> str:
    return ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""


def _keys_of_command(name: str) -> Iterator[str]:
    """Yield the table of the keys of conf/NAME.yaml that have a comment."""
    file = CONF / f"{name}.yaml"
    values = dict(_values(yaml.load(file.read_text(encoding="utf-8"), LOADER)))
    rows = [
        (f"`{key}`", _code(values.get(key)), comment)
        for key, comment in keys_of(file).items()
        if comment and key.partition(".")[0] != "hydra"
    ]
    yield markdown_table(["key", "default", "meaning"], rows)


def _questions(folder: Path, skipped: set[str]) -> Iterator[tuple[str, str]]:
    for path in sorted(folder.rglob("*.yaml")):
        if path.stem not in skipped:
            question = yaml.safe_load(path.read_text(encoding="utf-8"))["question"]
            yield f"`{path.relative_to(folder).with_suffix('').as_posix()}`", question


# Configuration


def _configuration() -> Iterator[str]:
    yield "# Configuration"
    yield (
        "A run is composed of one file for each group of `conf/`, by Hydra. Each file is a choice, and has a section "
        "here with all of its keys. Files that begin with `_` are parts of others, and no choices."
    )
    rows = []
    for group in groups():
        choices = ", ".join(f"`{name}`" for name in _names(group) if not name.startswith("_"))
        rows.append((f"[{group}](conf/{group}.md)", meanings().get(group, ""), choices))
    yield markdown_table(["group", "what it chooses", "choices"], rows)


def _names(group: str) -> list[str]:
    """Return the files of a group: choices, then those that are parts of others."""
    return sorted((path.stem for path in (CONF / group).glob("*.yaml")), key=lambda name: (name[0] == "_", name))


def _group(group: str) -> Iterator[str]:
    yield f"# {group}"
    if group in meanings():
        yield f"{meanings()[group][0].upper()}{meanings()[group][1:]}."
    for name in _names(group):
        yield from _file(group, CONF / group / f"{name}.yaml")
    for path in sorted((CONF / group).glob("*/*.yaml")):  # settings of an experiment for a family or a dataset
        yield from _file(group, path)


def _file(group: str, path: Path) -> Iterator[str]:
    """Yield the section of a file of conf/."""
    text = path.read_text(encoding="utf-8")
    content = yaml.load(text, LOADER) or {}
    package = re.search(r"^# @package (\S+)", text, re.M)
    prefix = group + "." if package is None else "" if package[1] == "_global_" else package[1] + "."
    yield f"## {path.relative_to(CONF / group).with_suffix('').as_posix()}"
    if comment := _first_comment(text):
        yield comment
    defaults = content.get("defaults", [])
    if begins := [default for default in defaults if isinstance(default, str) and default != "_self_"]:
        yield f"Inherits {', '.join(f'[{name}](#{name})' for name in begins)}."
    if others := [default for default in defaults if isinstance(default, dict)]:
        chosen = ((key.removeprefix("override ").strip("/"), value) for other in others for key, value in other.items())
        yield "Chooses " + ", ".join(f"`{key.partition('@')[0]}={value}`" for key, value in chosen) + "."
    if "_target_" in content:
        yield f"Makes `{content['_target_']}`."
    comments = keys_of(path)
    inherited = keys(group, path.stem) if path.parent == CONF / group else {}
    rows = []
    for key, value in _values(content):
        heading = comments.get(key, "").endswith(_first_comment(text))  # the comment of the file, above its first key
        comment = (not heading and comments.get(key)) or inherited.get(f"{prefix}{key}", "")
        if value != {} or comment:
            rows.append((f"`{prefix}{key}`", _code(value), comment))
    if rows:
        yield markdown_table(["key", "value", "meaning"], rows)


def _first_comment(text: str) -> str:
    """Return the comment at the start of a file."""
    lines = [line for line in text.splitlines() if not line.startswith("# @package")]
    end = next((number for number, line in enumerate(lines) if not line.startswith("#")), len(lines))
    return " ".join(line.lstrip("# ") for line in lines[:end])


def _values(node: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the dotted keys of a file with their values; a mapping comes before its own keys, as what it makes."""
    for key, value in node.items():
        if key in ("_target_", "_partial_", "defaults", "hydra"):
            continue
        if isinstance(value, dict):
            yield f"{prefix}{key}", value.get("_target_", {})
            yield from _values(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _code(value: Any) -> str:
    return f"`{value}`" if isinstance(value, str) and value else f"`{json.dumps(value, ensure_ascii=False)}`"


# The Python interface


def _package(title: str, package: str) -> Iterator[str]:
    """Yield the page of a package: each name that it exports, for mkdocstrings."""
    yield f"# {title}"
    if package in FUNCTIONS:
        yield f"These functions of `{package}` are for notebooks as well, such as docs/notebooks/tour.ipynb."
        yield from (f"::: {package}.{name}" for name in FUNCTIONS[package])
        return
    yield f"`{package}` exports these names."
    if package == "poslab.encodings":
        yield "The pages of [encodings](../../encodings.md) have plots and measurements of each."
    tree = ast.parse((SRC / package.replace(".", "/") / "__init__.py").read_text(encoding="utf-8"))
    listed = [
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id == "__all__"
    ]
    imported = [
        (alias, f"{node.module}.{alias.name}")
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module
        for alias in node.names
    ]
    origins = {alias.asname or alias.name: origin for alias, origin in imported}
    exported = listed[0] if listed else [alias.asname for alias, _ in imported if alias.asname == alias.name]
    for name in sorted((name for name in exported if name != "__version__"), key=str.lower):
        yield f"::: {origins.get(name, f'{package}.{name}')}"

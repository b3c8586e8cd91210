"""Every command and code block of the pages is understood by the program that it is for.

A command is read and composed as its program does it, up to the point where data is needed. Blocks are run as a whole
in the tests of the tutorials, of the encodings and of the other guides.
"""

from __future__ import annotations

import ast
import importlib
import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hydra import compose, initialize_config_dir
from hydra.errors import ConfigCompositionException
from omegaconf import OmegaConf

from poslab.cli import advise, compare, sweep
from poslab.cli.argv import expand_aliases, options_first, parsed
from poslab.cli.errors import known_keys
from poslab.cli.evaluate import words_of_model
from poslab.cli.hydra_command import own_keys_and_overrides
from poslab.experiments.comparison_file import read_comparison
from poslab.experiments.sweep import read_sweep
from tests.conftest import ROOT
from tests.docs.guides import PAGES, Block, blocks

CONF, COMPARISONS, SWEEPS = ROOT / "conf", ROOT / "comparisons", ROOT / "sweeps"

BLOCKS = [block for page in PAGES for block in blocks(page)]
VARIABLES = {"$encoding": "rotary", "$seed": "1", "$HOME": "/home", "$(id -u)": "1"}
PROGRAMS = ("train", "evaluate", "generate", "export", "sweep", "compare", "advise")
SHELL = {"for", "done", "export"}
OTHERS = {"pip", "docker", "apt-get", "pre-commit", "source", "tensorboard", "jupyter", "srun", "poslab", "eval", "["}
"""Programs of which nothing is checked but the name."""
WRITTEN_ON_THE_PAGE = re.compile(r"log_cpb|my_cpb|model=thin|encoding=mine")
"""Choices that a tutorial makes; its own test runs the commands that name them."""


def commands(block: Block) -> Iterator[tuple[str, ...]]:
    """Yield the words of each command of a block, without comments, variables of the environment and redirections."""
    text = block.text.replace("\\\n", " ")
    for variable, value in VARIABLES.items():
        text = text.replace(variable, value)
    for line in text.splitlines():
        for words in _split(shlex.split(line, comments=True)):
            words = [word for word in words if not word.startswith("<")]
            while words and re.match(r"[A-Z_]+=", words[0]):
                words.pop(0)
            if words[:1] == ["poslab"] and words[1] in PROGRAMS:
                words = ["python", "-m", f"src.{words[1]}", *words[2:]]
            if words and words[0] not in SHELL:
                yield tuple(words)


def _split(words: list[str]) -> Iterator[list[str]]:
    while "&&" in words:
        yield words[: words.index("&&")]
        words = words[words.index("&&") + 1 :]
    yield words


COMMANDS = sorted({words for block in BLOCKS if block.language == "bash" for words in commands(block)})
OURS = [words for words in COMMANDS if words[:2] == ("python", "-m") and words[2].startswith("src.")]


def first_value(word: str) -> str:
    """Return an override with the first of several values."""
    (override,) = parsed([word])
    if not override.is_sweep_override():
        return word
    return f"{word.partition('=')[0]}={next(iter(override.sweep_string_iterator()))}"


def composed(name: str, words: list[str]) -> Any:
    """Return the configuration of a command, as it composes it."""

    def made(overrides: list[str]) -> Any:
        with initialize_config_dir(str(CONF), version_base="1.3"):
            return compose(name, overrides=overrides)

    overrides = [first_value(word) for word in options_first(words) if "=" in word and not word.startswith("hydra")]
    try:
        return made(overrides)
    except ConfigCompositionException:
        return made(expand_aliases(overrides, known_keys(name, overrides)))


@pytest.mark.slow
@pytest.mark.parametrize("words", OURS, ids=lambda words: " ".join(words)[10:70])
def test_a_command_is_read_as_it_stands(
    words: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, _, program, *arguments = words
    if program == "src.explore":
        assert all(argument.startswith("to=") for argument in arguments)
        return
    if "--help" in arguments or WRITTEN_ON_THE_PAGE.search(" ".join(arguments)):
        return
    if program == "src.advise":
        given, others = own_keys_and_overrides(arguments, "case", advise.OWN_KEYS)
        assert not others and {"size", "context"} <= {*given}
        return
    if program in ("src.sweep", "src.compare"):
        monkeypatch.chdir(tmp_path)
        for block in BLOCKS:
            if block.file is not None and "/" not in block.file:
                (tmp_path / block.file).write_text(block.text, encoding="utf-8")
    if program == "src.sweep":
        given, overrides = own_keys_and_overrides(arguments, "sweep", sweep.OWN_KEYS)
        read = read_sweep(SWEEPS, given, overrides)
        composed("train", [f"{key}={value}" for key, value in read.train.items() if not isinstance(value, list | dict)])
    elif program == "src.compare":
        given, overrides = own_keys_and_overrides(arguments, "comparison", compare.OWN_KEYS)
        of_the_command = {"dry_run", "pilot", "report_only", "recommend", "length", "memory", "speed", "start"}
        given = {key: value for key, value in given.items() if key not in of_the_command}
        if "report_only=true" in arguments and "comparison" not in given:
            assert (ROOT / given["output"] / "comparison.yaml").is_file()
        elif "runs" not in given:
            assert read_comparison(COMPARISONS, given, overrides).cases
    else:
        own = [word for word in arguments if not word.startswith(("prompt=", "--config-", "outputs/sweeps/", "best"))]
        if program == "src.evaluate":
            of_model = words_of_model(own, "evaluate")
            composed("train", [word for word in of_model if "model." not in word])
            own = [word for word in own if word not in of_model]
        if program == "src.generate":
            own = [f"sampling.{word}" if word.startswith(("temperature=", "top_")) else word for word in own]
        assert OmegaConf.is_config(composed(program.removeprefix("src."), own))


@pytest.mark.parametrize("words", sorted(set(COMMANDS) - set(OURS)), ids=lambda words: " ".join(words)[:60])
def test_any_other_command_names_what_there_is(words: tuple[str, ...]) -> None:
    program = words[3] if words[:3] == ("python", "-m", "pip") else words[0]
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for extra in re.findall(r"^\.\[(\w+)\]$", "\n".join(words), re.M):
        assert extra in extras
    if program == "python":
        if words[1] == "-m":
            assert words[2] in ("pip", "pytest", "venv", "mkdocs") and all(
                (ROOT / word).exists() or "log_cpb" in word for word in words if word.startswith("tests/")
            )
        elif words[1] != "-c":
            assert (ROOT / words[1]).is_file(), words[1]
    else:
        assert program in OTHERS | {"install", "wheel", ".ci/run"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_python_names_what_there_is(page: Path) -> None:
    for block in blocks(page):
        if block.language != "python":
            continue
        for node in ast.walk(ast.parse(block.text)):
            name = (node.module or "") if isinstance(node, ast.ImportFrom) else ""
            if not name.startswith("poslab") or "log_cpb" in name:
                continue
            module = importlib.import_module(name)
            for alias in node.names:
                assert hasattr(module, alias.name), f"{block.page}: {name} has no {alias.name}"


def test_yaml_and_languages() -> None:
    for block in BLOCKS:
        assert block.language in ("bash", "python", "yaml", "json", "text", "", "mermaid"), block
        if block.language == "yaml":
            assert isinstance(yaml.safe_load(block.text), dict)


def test_the_chinese_pages_have_the_code_of_the_english_ones() -> None:
    def code(text: str) -> str:
        return re.sub(r"[ \t]*#.*", "", text).strip()

    for page in sorted((ROOT / "docs" / "zh").glob("*.md")):
        if page.stem == "index":
            continue
        english = ROOT / "docs" / page.name
        english = english if english.exists() else ROOT / "docs" / "tutorials" / page.name
        known = {code(block.text) for block in blocks(english)}
        for block in blocks(page):
            assert code(block.text) in known, f"{page.name}: {block.text}"


FIRST_PAGES = {"README.md", "README.zh-CN.md", "docs/index.md", "docs/tutorials/first-run.md", "docs/zh/first-run.md"}


@pytest.mark.parametrize(
    ("page", "line"), [(b.page, b.text) for b in BLOCKS if b.page in FIRST_PAGES and b.language == "bash"]
)
def test_no_command_of_the_first_pages_needs_more_than_the_install_line_of_its_block(page: str, line: str) -> None:
    installed = re.findall(r'pip install -e "\.\[(\w+)\]"', line)
    assert not re.search(r"model=pretrained|src\.export", line) or "pretrained" in installed
    assert set(re.findall(r"\bdataset=(\w+)", line)) <= {"python_docs", "text", "glyphs"}  # what the package brings
    assert not re.search(r"logger=|step=private|optimizer=lion|hydra/launcher=|storage=", line)

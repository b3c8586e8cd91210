"""The code blocks of the pages, and copies of the repository in which their commands are typed."""

import os
import re
import shlex
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tests.cli.running import Running, python
from tests.conftest import ROOT

PAGES = [
    ROOT / "README.md",
    ROOT / "README.zh-CN.md",
    ROOT / ".github" / "CONTRIBUTING.md",
    *sorted(ROOT.glob("[cs]*/README.md")),
]
PAGES += sorted((ROOT / "docs").rglob("*.md"))
"""All pages that people read."""


class Block(NamedTuple):
    """A code block of a page, and the file that the line above it names."""

    page: str
    language: str
    text: str
    file: str | None


def blocks(page: Path) -> Iterator[Block]:
    """Yield the code blocks of a page."""
    around = re.split(r"^```", page.read_text(encoding="utf-8"), flags=re.M)  # text, block, text, block, ..., text
    for above, block in zip(around[0::2], around[1::2], strict=False):
        language, _, text = block.partition("\n")
        named = re.search(r"`([\w/]+\.(?:py|yaml))`[^`\n]*[:：]\s*$", above)
        yield Block(str(page.relative_to(ROOT)), language, text, named[1] if named else None)


def copy_of_repository(folder: Path, *names: str) -> None:
    """Copies these folders, and the settings of the tools; there `python` is that of the tests."""
    for name in names:
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    (folder / "bin").mkdir()
    (folder / "bin" / "python").write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    (folder / "bin" / "poslab").write_text('#!/bin/sh\nprogram=$1\nshift\nexec python -m "src.$program" "$@"\n')
    for name in ("python", "poslab"):
        (folder / "bin" / name).chmod(0o755)


def typed(folder: Path, command: str, *more: str) -> str:
    """The output of lines that are typed in the copy, one after another, with these arguments after the last.

    A line that is a command of ours and nothing else begins with the libraries imported.
    """
    packages = f"{folder / 'src'}{os.pathsep}{folder}"
    environment = {
        "PATH": f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": packages,
        "HOME": str(folder / "home"),
        "XDG_CACHE_HOME": str(folder / "cache"),
    }
    printed = ""
    for line in " ".join([command.strip(), *more]).replace("\\\n", " ").splitlines():
        # The commands find poslab itself where it is installed: here in the copy.
        whole = re.sub(r"(PYTHONPATH=\S+)", rf"\1:{packages}", line.partition("  #")[0])
        if exported := re.fullmatch(r"export (\w+)=(\S+)", whole):
            environment[exported[1]] = exported[2]
            continue
        ours = re.fullmatch(r"(?:python -m src\.|poslab )([^|;&<>$`*]+)", whole)
        words = python(*shlex.split(f"-m src.{ours[1]}")) if ours else ["bash", "-c", whole]
        ended = Running(words, folder, environment).wait(250)
        printed += ended.output
        assert ended.status == 0, printed + ended.errors
    return printed

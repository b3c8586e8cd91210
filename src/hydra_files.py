"""Refuse files of `--config-dir` that would make Hydra itself run code, before Hydra reads them."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ALLOWED = {"output_subdir", "job.name", "run.dir", "sweep.dir", "sweep.subdir"}
"""What such a file may say of Hydra: where a run is written."""
LOGGING = ({"override hydra/job_logging": "none"}, {"override hydra/hydra_logging": "none"})


def check_config_dir(arguments: list[str]) -> None:
    """Check the folder that a command line adds to the choices of conf/, such as that of a sweep.

    Hydra builds callbacks, launchers and logging from the key `hydra`, whoever wrote it. conf/ and the command line are
    the user's own; a folder that is named on it may be a stranger's.

    Raises:
        ValueError: naming the file, if it sets more of Hydra than where a run is written.
    """
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--config-dir", "-cd")
    parser.add_argument("--config-path", "-cp")
    parser.add_argument("--experimental-rerun")
    named = vars(parser.parse_known_args(arguments)[0])
    if named.pop("experimental_rerun") is not None:
        raise ValueError("--experimental-rerun reads a pickle, which can run any code: resume=RUN continues a run")
    for folder in filter(None, named.values()):
        for file in sorted(Path(folder).rglob("*.yaml")):
            content = file.read_bytes()
            if b"hydra" in content or b"\\" in content or "hydra" in file.relative_to(folder).parts:
                _check(file, Path(folder))


def _check(file: Path, folder: Path) -> None:
    from poslab.reading import read_yaml

    node = read_yaml(file)
    own = node.pop("hydra", None)
    wrong = [key for key in _dotted(own or {}) if key not in ALLOWED] if isinstance(own or {}, dict) else ["hydra"]
    defaults = node.get("defaults")
    if isinstance(defaults, list):
        node["defaults"] = [entry for entry in defaults if entry not in LOGGING]
    package = re.search(r"#\s*@package\s+(.*)", file.read_text(encoding="utf-8"))
    mentions = [*_words(node), *file.relative_to(folder).parts, *([package[1]] if package else [])]
    wrong += [word for word in mentions if "hydra" in word]
    if wrong:
        raise ValueError(
            f"{file} must not set {wrong[0]} of Hydra, which can run any code: if it is yours, put it into conf/ "
            "or on the command line"
        )


def _dotted(node: dict[Any, Any], prefix: str = "") -> Iterator[str]:
    for key, value in node.items():
        if isinstance(value, dict):
            yield from _dotted(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"


def _words(node: Any) -> Iterator[str]:
    """Yield every key, and every text of a defaults list."""
    if isinstance(node, dict):
        for key, value in node.items():
            yield str(key)
            yield from _words(value if isinstance(value, dict | list) else None)
            if key == "defaults" and isinstance(value, list):
                yield from (entry for entry in value if isinstance(entry, str))
    elif isinstance(node, list):
        for item in node:
            yield from _words(item if isinstance(item, dict | list) else None)

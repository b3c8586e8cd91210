"""Refuse files of `--config-dir` that would make Hydra run code, write elsewhere or read secrets, before it does."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from poslab.io.writing import refuse_links

PATHS = {"job.name", "run.dir", "sweep.dir", "sweep.subdir"}
"""Keys of Hydra that such a file may set: they say where below the working directory a run is written."""
OUTPUT_SUBDIRS = (None, ".hydra")
"""Folders of a run into which such a file may let Hydra write: none, or one that nothing else uses."""
OF_THE_JOB = re.compile(r"\$\{(now:[\w%-]*|hydra:runtime\.choices\.\w+|hydra:job\.num|hydra\.job\.num)\}")
"""Interpolations whose values are names, not paths."""
LOGGING = ({"override hydra/job_logging": "none"}, {"override hydra/hydra_logging": "none"})


def check_config_dir(arguments: list[str]) -> None:
    """Check the folder that a command line adds to the choices of conf/, such as that of a sweep.

    Hydra builds callbacks, launchers and logging from the key `hydra`, whoever wrote it. conf/ and the command line are
    the user's own; a folder that is named on it may be a stranger's.

    Raises:
        ValueError: naming the file, if it sets more of Hydra than where below the working directory a run is written,
            chooses files outside the folder, or has interpolations that `check_interpolations` refuses; and naming a
            link, which would lead out of the folder.
    """
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--config-dir", "-cd")
    parser.add_argument("--config-path", "-cp")
    parser.add_argument("--experimental-rerun")
    named = vars(parser.parse_known_args(arguments)[0])
    if named.pop("experimental_rerun") is not None:
        raise ValueError("--experimental-rerun reads a pickle, which can run any code: resume=RUN continues a run")
    for folder in map(Path, filter(None, named.values())):
        if folder.is_dir():  # Hydra says it of any other
            check_folder(folder)


def check_folder(folder: Path) -> None:
    """Check the files of a folder of choices; errors are those of `check_config_dir`."""
    refuse_links(folder)
    for file in sorted(filter(Path.is_file, folder.rglob("*.yaml"))):
        content = file.read_bytes()
        is_plain = not any(word in content for word in (b"hydra", b"\\", b"..", b"${"))
        if not is_plain or "hydra" in file.relative_to(folder).parts:
            _check(file, folder)


def _check(file: Path, folder: Path) -> None:
    from poslab.configuration.interpolations import check_interpolations, texts
    from poslab.io.reading import read_yaml

    node = read_yaml(file)
    check_interpolations(node, file)
    own = node.pop("hydra", None) or {}
    settings = dict(_dotted(own)) if isinstance(own, dict) else {"hydra": own}
    wrong = [key for key in settings if key not in PATHS | {"output_subdir"}]
    defaults = node.get("defaults")
    if outside := [word for word in texts(defaults) if ".." in re.split(r"[/@: ]", word)]:
        raise ValueError(f"{file}: defaults must name files of {folder}, got {outside[0]!r}")
    if isinstance(defaults, list):
        node["defaults"] = [entry for entry in defaults if entry not in LOGGING]
    package = re.search(r"#\s*@package\s+(.*)", file.read_text(encoding="utf-8"))
    mentions = [*_words(node), *file.relative_to(folder).parts, *([package[1]] if package else [])]
    wrong += [word for word in mentions if "hydra" in word]
    if wrong:
        raise ValueError(
            f"{file} must not set {wrong[0]} of Hydra, which can run any code: if it is yours, give it "
            "on the command line"
        )
    for key, value in settings.items():
        if not (value in OUTPUT_SUBDIRS if key == "output_subdir" else _is_below(value)):
            raise ValueError(
                f"{file}: hydra.{key} must be "
                + ("null or .hydra" if key == "output_subdir" else "a path below the working directory")
                + f", got {value!r}: give it on the command line"
            )


def _is_below(path: Any) -> bool:
    """Return whether a path of Hydra's stays below the working directory whatever its interpolations become."""
    if not isinstance(path, str):
        return False
    rest = OF_THE_JOB.sub("x", path)
    return "${" not in rest and not Path(rest).is_absolute() and ".." not in Path(rest).parts


def _dotted(node: dict[Any, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the dotted keys of nested nodes with their values."""
    for key, value in node.items():
        if isinstance(value, dict):
            yield from _dotted(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


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

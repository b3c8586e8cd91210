"""Labels of several runs: the encoding of each, and the keys in which they differ, by the names that people type."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from poslab.configuration.build import encoding_named

GROUPS = ("positions", "temperature", "model", "optimizer", "dataset")
"""Groups whose choice is named in place of the class that it makes."""

APART = ("trust", "resume", "callbacks", "logger", "dataset.num_workers", "dataset.cache_dir", "trainer.devices")
"""Keys that do not change what a run learns, and are in no label."""

MANY = 4
"""Most keys in a label."""


def labels(configs: Sequence[Mapping[str, Any]], conf: Path) -> list[str]:
    """Return the label of each run, such as `rotary base=1e+05`, from its configuration.

    Labels may be equal where configurations are, or differ only in more than four keys.

    Args:
        configs: of the runs, resolved.
        conf: folder of the choices, whose names are used.
    """
    flat = [dict(_flat(config, conf)) for config in configs]
    names = [own.get("encoding") or encoding_named(config) for own, config in zip(flat, configs, strict=True)]
    keys = [key for key in dict.fromkeys(key for own in flat for key in own) if _differs(key, flat)]
    kept = [key for key in keys if key != "encoding" and (key == "seed" or not key.endswith("seed"))]
    shorts = {key: _short(key, kept) for key in kept}
    return [
        " ".join([name, *(f"{shorts[key]}={_shown(own[key])}" for key in _of(own, kept, flat)[:MANY])])
        for name, own in zip(names, flat, strict=True)
    ]


def _of(own: Mapping[str, Any], keys: Sequence[str], flat: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the keys that the label of a run names: those within a group differ among runs of its choice."""
    found = []
    for key in keys:
        group = key.partition(".")[0]
        alike = [other for other in flat if "." not in key or other.get(group) == own.get(group)]
        if key in own and _differs(key, alike):
            found.append(key)
    return found


def _differs(key: str, flat: Sequence[Mapping[str, Any]]) -> bool:
    return len({repr(own.get(key)) for own in flat}) > 1


def _flat(config: Mapping[str, Any], conf: Path) -> Iterator[tuple[str, Any]]:
    """Yield dotted keys with their values; a group is its choice, if it is one, beside the keys within it."""
    for group in ("encoding", *GROUPS):
        if isinstance(node := config.get(group), Mapping) and (name := choice_name(conf, group, node)) is not None:
            yield group, name
    yield from ((key, value) for key, value in _leaves(config, "") if not key.startswith(APART))


def _leaves(node: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for key, value in node.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{key}.")
        elif key not in ("_target_", "_partial_"):
            yield f"{prefix}{key}", value


def choice_name(conf: Path, group: str, node: Mapping[str, Any]) -> str | None:
    """Return the choice of a group that makes what a node describes, from the nearest file; None if there is none.

    Files may make the same class, such as those of rotary scalings: classes must be equal in all places, and of several
    files that fit, the one with most equal values is taken.
    """
    found = {name: own for name, own in _files(conf, group).items() if _classes(own) == _classes(node)}
    return max(found, key=lambda name: _likeness(found[name], node), default=None)


def _likeness(own: Mapping[str, Any], node: Mapping[str, Any]) -> tuple[int, int]:
    leaves, others = dict(_leaves(own, "")), dict(_leaves(node, ""))
    return sum(others.get(key) == value for key, value in leaves.items()), -len(leaves)


def _classes(node: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Return the `_target_` at each place of a node."""
    own = {prefix: str(node["_target_"])} if "_target_" in node else {}
    for key, value in node.items():
        if isinstance(value, Mapping):
            own |= _classes(value, f"{prefix}{key}.")
    return own


@cache
def _files(conf: Path, group: str) -> dict[str, Mapping[str, Any]]:
    """Return the contents of the files of a group, without those that begin with an underscore."""
    files = [file for file in sorted((conf / group).glob("*.yaml")) if not file.name.startswith("_")]
    return {file.stem: _content(file) for file in files}


def _content(file: Path) -> dict[str, Any]:
    """Return the content of a file over that of the files of its group that it names as its defaults."""
    node = yaml.safe_load(file.read_text(encoding="utf-8"))
    whole: dict[str, Any] = {}
    for other in node.pop("defaults", []):
        if isinstance(other, str) and (base := file.with_name(f"{other}.yaml")).is_file():
            whole |= _content(base)
    return whole | node


def _short(key: str, others: Sequence[str]) -> str:
    """Return the last word of a key, or as many as distinguish it from the other keys."""
    words = key.split(".")
    for count in range(1, len(words) + 1):
        short = ".".join(words[-count:])
        if sum(other == short or other.endswith(f".{short}") for other in others) == 1:
            return short
    return key


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value).replace(" ", "")

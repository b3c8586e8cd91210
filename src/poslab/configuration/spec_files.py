"""Files that ask one question, such as a sweep or a comparison: their names, presets, and shared defaults."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from poslab.arguments import nearest, nearest_or_list, needed
from poslab.configuration.build import package_names
from poslab.configuration.command_line import in_current_directory
from poslab.configuration.outside_files import check_interpolations
from poslab.io.files import read_yaml

DEFAULTS = "defaults.yaml"  # name of the file with the keys that all files of a folder share


@dataclass(frozen=True)
class SpecFiles:
    """The files of one kind in a folder."""

    kind: str  # word of the command line that names one of them, such as `sweep`
    folder: Path  # of the files
    keys: Sequence[str]  # that a file may have, besides `presets`

    def names(self) -> list[str]:
        """Return the names of the files, without defaults; files of a folder in it as `papers/kazemnejad2023`."""
        return sorted(self._by_name())

    def _by_name(self) -> dict[str, Path]:
        """Return the files by name, also from the current directory; of two of a name, Poslab's."""
        by_name: dict[str, Path] = {}
        for folder in filter(None, (in_current_directory(self.folder), self.folder)):
            files = (file for file in folder.rglob("*.yaml") if file.name != DEFAULTS)
            by_name |= {file.relative_to(folder).with_suffix("").as_posix(): file for file in files}
        return by_name

    def path(self, name: Any) -> Path:
        """Return the file of a name, or of a path that ends in .yaml; ValueError if there is none."""
        path = Path(str(name))
        if path.suffix in (".yaml", ".yml"):
            if not path.is_file():
                raise ValueError(f"{self.kind}={name}: the file does not exist")
            return path
        if str(name) not in (known := self._by_name()):
            file = f"{name}.yaml"
            hint = (
                f"; did you mean {file!r}?"
                if Path(file).is_file()
                else nearest_or_list(str(name), known, f"--help lists the {self.kind}s")
            )
            raise ValueError(f"unknown {self.kind} {name!r}{hint}")
        return known[str(name)]

    def chosen(self, given: Mapping[str, Any], made: type, overrides: Sequence[str]) -> tuple[str, dict[str, Any]]:
        """Return the name of the file that a command line chooses, and its keys, the preset's and its own.

        ValueError for an unknown file, preset or key, or one that is missing.

        Args:
            given: keys of the command line: the kind (a name in the folder, or the path of a file), `preset`, and
                arguments that override the arguments of the file.
            made: dataclass of the arguments. A file need not have its `name` and `output`, nor may a command line have
                its `question` and `overrides`.
            overrides: choices of every run, as typed.
        """
        given = dict(given)
        if given.get(self.kind) is None:
            hint = nearest_or_list("", self.names(), f"--help lists the {self.kind}s")
            raise ValueError(f"{self.kind} must name a {self.kind} or the path of a file{hint}")
        typed, preset = str(given.pop(self.kind)), given.pop("preset", None)
        path = self.path(typed)
        node = self.read(path, preset)
        allowed = [field.name for field in fields(made) if field.name not in ("overrides", "question")]
        if unknown := sorted(set(given) - set(allowed)):
            raise ValueError(f"unknown key {unknown[0]!r}{nearest(unknown[0], [self.kind, 'preset', *allowed])}")
        if "trust" in given:
            given["trust"] = package_names(given["trust"])
        node |= given
        if missing := [key for key in needed(made) if key not in (*node, "name", "output")]:
            raise ValueError(f"{path} must have {' and '.join(missing)}")
        stem = path.stem if typed.endswith((".yaml", ".yml")) else typed
        node = {"name": stem if preset is None else f"{stem}_{preset}", **node, "overrides": list(overrides)}
        return stem, {"output": f"outputs/{self.kind}s/{node['name']}", **node}

    def question(self, name: str) -> str:
        """Return the question that the file of a name asks, for a list of them."""
        return str(read_yaml(self.path(name)).get("question", ""))

    def read(self, path: Path, preset: Any) -> dict[str, Any]:
        """Return the keys of a file, which override the defaults next to it; in each, a preset overrides.

        The choices of `train`, and cases by name with their choices, are merged; a case that a preset sets to null is
        left out. Any other key replaces an earlier one. ValueError for an unknown preset or key, or a key of the preset
        that a case of the file overrides.
        """
        contents = [self._contents(file) for file in (path.with_name(DEFAULTS), path) if file.is_file()]
        known = sorted({str(name) for node in contents for name in node["presets"]})
        if preset is not None and preset not in known:
            hint = nearest_or_list(str(preset), known, f"{path.name} has no presets")
            raise ValueError(f"unknown preset {preset!r} of {path.name}{hint}")
        merged: dict[str, Any] = {"train": {}}
        for node in contents:
            chosen = node.pop("presets").get(preset, {})
            merged = _over(merged, node)
            for name, case in _mapping(merged.get("cases")).items():
                of_preset = _mapping(chosen.get("cases")).get(name, {})
                overriding = _keys(case) & _keys(chosen) - _keys(of_preset)
                if overriding and of_preset is not None:  # null leaves the case out
                    key = min(overriding)
                    raise ValueError(
                        f"{path}: presets.{preset}.{key} would be overridden by cases.{name}.{key}: set "
                        f"presets.{preset}.cases.{name}.{key} too"
                    )
            merged = _over(merged, chosen)
        return merged

    def _contents(self, path: Path) -> dict[str, Any]:
        """Return the keys of a file, with its presets by name."""
        contents = read_yaml(path)
        check_interpolations(contents, path)
        contents["presets"] = presets = contents.get("presets") or {}
        if not isinstance(presets, Mapping) or not all(isinstance(preset, Mapping) for preset in presets.values()):
            raise ValueError(f"{path}: presets must be keys by name, as in {{small: {{n_trials: 8}}}}, got {presets!r}")
        for section, node in (("", contents), *((f" in presets.{name}", preset) for name, preset in presets.items())):
            allowed = (*self.keys, "presets") if not section else self.keys
            if unknown := [key for key in node if key not in allowed]:
                raise ValueError(f"{path}: there is no key {unknown[0]}{section}{nearest(str(unknown[0]), allowed)}")
            if not isinstance(node.get("train"), Mapping | None):
                raise ValueError(f"{path}: train{section} must be choices by key, as in {{encoding: rotary}}")
        return contents


def _over(node: Mapping[str, Any], layer: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keys of a node with the keys of a layer over them."""
    merged = {**node, **layer}
    train, more = node.get("train"), layer.get("train")
    if isinstance(train, Mapping) and isinstance(more, Mapping | None):
        merged["train"] = {**train, **(more or {})}
    cases, others = node.get("cases"), layer.get("cases")
    if isinstance(cases, Mapping) and isinstance(others, Mapping):
        both = [name for name in others if isinstance(others[name], Mapping) and isinstance(cases.get(name), Mapping)]
        left_out = [name for name in cases if others.get(name, cases) is None]
        joined = {**cases, **others, **{name: _over(cases[name], others[name]) for name in both}}
        merged["cases"] = {name: case for name, case in joined.items() if name not in left_out}
    return merged


def _keys(node: Any) -> set[str]:
    """Return the keys that a case may have instead of the keys of all cases."""
    return {f"train.{key}" for key in _mapping(_mapping(node).get("train"))} | {"gate", "metrics"} & set(_mapping(node))


def _mapping(node: Any) -> Mapping[str, Any]:
    return node if isinstance(node, Mapping) else {}

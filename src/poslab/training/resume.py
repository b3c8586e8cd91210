from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from poslab.configuration import nearest, target, trusted_packages
from poslab.data.paths import neighbours
from poslab.run_directory import RunDirectory


class Plan(NamedTuple):
    """Which run is to be trained.

    Args:
        run: the run.
        config: its configuration.
        checkpoint: what it goes on from; None starts anew.
    """

    run: RunDirectory
    config: dict[str, Any]
    checkpoint: Path | None


def plan(config: Mapping[str, Any], directory: Path, given: list[str]) -> Plan:
    """What `resume` means.

    Args:
        config: the composed configuration.
        directory: where a new run would be kept.
        given: the overrides of the command line, `resume` aside.

    Raises:
        ValueError: if there is nothing to go on with, or it was asked to go on as something else than it is.
    """
    resume = config["resume"]
    config = {**config, "resume": None}
    if resume is None:
        run = RunDirectory(directory, trusted_packages(config))
        if run.config_file.exists():
            raise ValueError(
                f"{directory} holds a run already: go on with resume={directory}, or choose another directory"
            )
        return Plan(run, config, None)
    if resume == "auto":
        in_multirun = (directory.parent / "multirun.yaml").exists()
        runs = directory.parent.parent if in_multirun else directory.parent
        found = newest_unfinished(runs, config)
        if found is None:
            return plan(config, directory, given)
        return Plan(found, config, found.last_checkpoint if found.last_checkpoint.exists() else None)
    path = Path(str(resume))
    if path.is_dir() and _is_fresh(path):
        return Plan(RunDirectory(path, trusted_packages(config)), config, None)
    if not path.exists():
        suggestion = nearest(str(path), neighbours(str(path)))
        raise ValueError(f"resume={resume}: there is no such run directory or checkpoint{suggestion}")
    run = RunDirectory.of(path, trusted_packages(config))
    own = run.config()
    if missing := sorted(config.keys() - own.keys()):
        raise ValueError(f"resume={resume} is no run of this command: its config.yaml has no {missing[0]}")
    differing = [key for key in differing_keys(own, config) if _is_given(key, given, config)]
    if differing:
        key = differing[0].removesuffix("._target_")
        raise ValueError(
            f"resume={resume} goes on with the run's own configuration, which has another {key}: "
            f"leave that out, or start a new run from its weights with init_from={run.path}"
        )
    checkpoint = path if path.is_file() else run.last_checkpoint
    return Plan(run, own, checkpoint if checkpoint.exists() else None)


def newest_unfinished(directory: Path, config: Mapping[str, Any]) -> RunDirectory | None:
    """The newest run below a directory that has this configuration, has not come to its end and does not train."""
    trust = trusted_packages(config)
    candidates = (RunDirectory(file.parent, trust) for file in directory.glob("**/config.yaml"))
    unfinished = [r for r in candidates if not (r.is_finished or r.is_held) and _has_configuration(r, config)]
    return max(unfinished, key=lambda run: run.config_file.stat().st_mtime, default=None)


def _has_configuration(run: RunDirectory, config: Mapping[str, Any]) -> bool:
    try:
        return _is_same(run.config(), config, ("poslab", *run.trust))
    except ValueError:  # a config.yaml of something else
        return False


def _is_same(old: Any, new: Any, trusted: Sequence[str]) -> bool:
    """Whether an old configuration is a new one, keys aside that there were not yet and that are at their default."""
    if isinstance(old, list) and isinstance(new, list):
        return len(old) == len(new) and all(_is_same(*pair, trusted) for pair in zip(old, new, strict=True))
    if not (isinstance(old, Mapping) and isinstance(new, Mapping)):
        return bool(old == new)
    return (
        old.keys() <= new.keys()
        and all(_is_same(old[key], new[key], trusted) for key in old)
        and all(new[key] == _default(new, key, trusted) for key in new.keys() - old.keys())
    )


def _default(node: Mapping[str, Any], key: str, trusted: Sequence[str]) -> Any:
    """What the `_target_` of a node takes where a key is left out; null where it has none."""
    arguments = inspect.signature(target(node["_target_"], key, Any, trusted)).parameters if "_target_" in node else {}
    return arguments[key].default if key in arguments else None


def differing_keys(one: Mapping[str, Any], other: Mapping[str, Any], prefix: str = "") -> Iterable[str]:
    """The dotted keys at which two configurations differ."""
    for key in dict.fromkeys([*one, *other]):
        a, b = one.get(key), other.get(key)
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            yield from differing_keys(a, b, f"{prefix}{key}.")
        elif a != b:
            yield f"{prefix}{key}"


def _is_given(key: str, given: list[str], config: Mapping[str, Any]) -> bool:
    """Whether an override speaks of a dotted key; a whole recipe (`experiment=`, `debug=`, `size=`) speaks of all."""
    names = [override.lstrip("+~").partition("=")[0] for override in given]
    return any(f"{key}.".startswith(f"{name}.") or name.partition(".")[0] not in config for name in names)


def _is_fresh(directory: Path) -> bool:
    """Whether a run was to be kept there and was killed before it began, or nothing is there at all."""
    first = {"checkpoints", RunDirectory(directory).log_file.name}
    return all(entry.name in first or entry.name.endswith(".writing") for entry in directory.iterdir())

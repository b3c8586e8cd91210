"""The run that a command trains: a new one, or one that was interrupted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from poslab.configuration.build import trusted_packages
from poslab.configuration.command_line import assignment
from poslab.runs.directory import LOCAL_LOGGERS, RunDirectory, instead
from poslab.runs.errors import RunTakenError


class Plan(NamedTuple):
    """A run to train."""

    run: RunDirectory
    config: dict[str, Any]
    checkpoint: Path | None  # to resume from; None starts from step 0
    is_new: bool = False  # the directory must not contain a run yet
    may_move: bool = False  # the run may take a directory of a similar name where this one contains a run
    # words of a command line that compose the configuration again; None if unknown
    choices: list[str] | None = None
    remark: str | None = None  # a line to print before it begins
    # loggers of a run that is read, other than the ones in its directory, which the user has not typed
    logs_to: Sequence[str] | None = None


def plan(config: Mapping[str, Any], directory: Path, given: list[str], is_named: bool = True) -> Plan:
    """Return the run that `resume` means, or a new one in a directory, which must be free if the user has named it.

    `given` are the overrides of the command line, without `resume`. ValueError if there is nothing to resume, or an
    override differs from the run's own configuration.
    """
    resume = config["resume"]
    config = {**config, "resume": None}
    if resume is None:
        run = RunDirectory(directory, trusted_packages(config))
        if is_named:
            require_free(run)
        return Plan(run, config, None, is_new=True, may_move=not is_named)
    if resume == "auto":
        in_multirun = (directory.parent / "multirun.yaml").exists()
        runs = directory.parent.parent if in_multirun else directory.parent
        if (newest := newest_unfinished(runs, config)) is None:
            return plan(config, directory, given, is_named)._replace(remark=_nothing_to_resume(runs, config))
        return Plan(newest, config, newest.last_checkpoint if newest.last_checkpoint.exists() else None)
    if not isinstance(resume, str) or not resume:
        raise ValueError(f"resume must be a run directory, a checkpoint or auto, got {resume!r}")
    path = Path(resume)
    if path.is_dir() and RunDirectory(path).is_fresh:
        return Plan(RunDirectory(path, trusted_packages(config)), config, None)
    if not path.exists():
        raise ValueError(f"resume={resume} is not a run directory or a checkpoint{instead(path)}")
    run = RunDirectory.of(path, trusted_packages(config))
    stored = run.config()
    if missing := [key for key in sorted(config.keys() - stored.keys()) if not _is_given(key, given, config)]:
        raise ValueError(f"resume={resume} is not a run of this command: its config.yaml has no {missing[0]}")
    differing = [key for key, *_ in changes_since(stored, config) if _is_given(key, given, config)]
    if differing:
        key = differing[0].removesuffix("._target_")
        raise ValueError(
            f"resume={resume} uses the run's own configuration, which has another {key}: "
            f"leave that out, or start a new run from its weights with {assignment('init_from', run.path)}"
        )
    checkpoint = path if path.is_file() else run.last_checkpoint
    known = [*LOCAL_LOGGERS, *config["logger"].values()]
    loggers = stored["logger"] if isinstance(stored.get("logger"), Mapping) else {}
    others = [name for name, node in loggers.items() if node not in known]
    return Plan(run, stored, checkpoint if checkpoint.exists() else None, logs_to=others)


def require_free(run: RunDirectory) -> None:
    """Raise RunTakenError if a directory contains a run."""
    if run.config_file.exists():
        raise RunTakenError(
            f"{run.path} already contains a run: resume it with {assignment('resume', run.path)}, "
            "or choose another directory"
        )


def newest_unfinished(directory: Path, config: Mapping[str, Any]) -> RunDirectory | None:
    """Return the newest run below a directory with this configuration that is neither finished nor in training."""
    same = [run for run, stored in _unfinished(directory, config) if not any(changes_since(stored, config))]
    return max((run for run in same if not run.is_held), key=_started, default=None)


def _unfinished(directory: Path, config: Mapping[str, Any]) -> Iterator[tuple[RunDirectory, dict[str, Any]]]:
    """Yield the runs below a directory that are not finished, each with its configuration."""
    for file in directory.glob("**/config.yaml"):
        run = RunDirectory(file.parent, trusted_packages(config))
        try:
            stored = run.config()
            run.check_files()
        except ValueError:  # a config.yaml of something else
            continue
        if not run.is_finished:
            yield run, stored


def _started(run: RunDirectory) -> float:
    return run.config_file.stat().st_mtime


def _nothing_to_resume(directory: Path, config: Mapping[str, Any]) -> str:
    """Return the reason why `resume=auto` starts a new run, with the unfinished run that differs least."""
    unfinished = [(list(changes_since(stored, config)), run) for run, stored in _unfinished(directory, config)]
    if not unfinished:
        return f"resume=auto: there is no unfinished run in {directory}; a new one starts"
    differing, run = min(unfinished, key=lambda pair: (len(pair[0]), -_started(pair[1])))
    if not differing:
        return f"resume=auto: {run.path} is being trained by another process; a new run starts"
    key, stored, wanted = differing[0]
    more = f" (and {len(differing) - 1} more keys)" if len(differing) > 1 else ""
    return (
        f"resume=auto: no unfinished run in {directory} has this configuration; a new one starts. "
        f"The nearest, {run.path}, has {key}={stored} where this one has {wanted}{more}"
    )


def changes_since(
    before: Mapping[str, Any], now: Mapping[str, Any], prefix: str = ""
) -> Iterator[tuple[str, Any, Any]]:
    """Yield the dotted keys in which a stored configuration differs from one of now, with both values.

    Which packages are trusted changes no run.
    """
    for key in dict.fromkeys([*before, *now]):
        old, new = before.get(key), now.get(key)
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            yield from changes_since(old, new, f"{prefix}{key}.")
        elif (key not in before or key not in now or old != new) and f"{prefix}{key}" != "trust":
            yield f"{prefix}{key}", old, new


def _is_given(key: str, given: list[str], config: Mapping[str, Any]) -> bool:
    """Return whether an override sets a key, or one within it; `experiment=`, `debug=` and `size=` set all."""
    names = [override.lstrip("+~").partition("=")[0] for override in given]
    is_within = (f"{key}.".startswith(f"{name}.") or name.startswith(f"{key}.") for name in names)
    return any(is_within) or any(name.partition(".")[0] not in config for name in names)

"""Command lines of sweeps and comparisons: own keys, choices of every run, and runs by pattern."""

from __future__ import annotations

import glob
import os
import shlex
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.errors import HydraException

from poslab.cli.argv import parsed, refuse_repeated, undashed, validate_overrides
from poslab.cli.errors import composition_error, unreadable
from poslab.configuration.command_line import assignment

if TYPE_CHECKING:
    from poslab.experiments.comparison import Comparison
    from poslab.experiments.sweep import Sweep

DISTRIBUTED_ENV = ("SLURM_NTASKS", "SLURM_PROCID", "TORCHELASTIC_RUN_ID", "RANK", "LOCAL_RANK", "JSM_NAMESPACE_RANK")
"""Environment variables that mark a run as one process of several; a worker's is never one, not even under srun."""

AS_TYPED = ("sweep", "comparison", "storage", "output", "name")
"""Keys whose values are names, URLs or paths, which need no quotes."""


def own_keys_and_overrides(
    arguments: list[str], command: str, own_keys: Collection[str]
) -> tuple[dict[str, Any], list[str]]:
    """Return the values of the own keys of a command, and the choices of every run as they were typed.

    Raises:
        ValueError: for an option, a key that is given twice, and values that Hydra cannot read.
    """
    given: dict[str, Any] = {}
    overrides: list[str] = []
    refuse_repeated(word for word in arguments if "=" in word)
    for argument in arguments:
        if argument in ("-m", "--multirun"):
            raise ValueError(f"{argument}: a {command} takes key=value only; --help lists the keys")
        if argument.startswith("-"):
            raise ValueError(undashed(argument))
        key, equals, value = argument.partition("=")
        if key in AS_TYPED and key in own_keys and equals:
            given[key] = None if value == "null" else value
            continue
        try:
            (override,) = parsed([argument])
        except HydraException:
            raise ValueError(unreadable(argument, arguments, command)) from None
        if override.is_sweep_override() and key in own_keys:
            raise ValueError(f"{argument}: a list is written in brackets: {shlex.quote(f'{key}=[{value}]')}")
        if override.is_sweep_override():
            raise ValueError(f"{argument}: the file of the {command} says what varies")
        validate_overrides(argument)
        if key in own_keys:
            given[key] = override.value()
        else:
            overrides.append(argument)
    return given, overrides


def run_question(
    question: Comparison | Sweep,
    run: Callable[[], None],
    own_keys: Iterable[str],
    explained: Callable[[str], str] = str,
) -> None:
    """Run a sweep or a comparison.

    Args:
        question: the sweep or the comparison.
        run: runs it.
        own_keys: of the command, in addition to those of a run.
        explained: returns the sentence for a configuration that cannot be composed, from that of `composition_error`.

    Raises:
        ValueError: for a configuration that cannot be composed, and as `run`.
    """
    words = [*(assignment(key, value) for key, value in question.train.items()), *question.overrides]
    try:
        run()
    except HydraException as error:
        raise ValueError(explained(composition_error(error, "train", words, own_keys))) from error


def clear_distributed_env() -> None:
    """Remove the environment variables by which a launcher has started this process as one of several."""
    for name in DISTRIBUTED_ENV:
        os.environ.pop(name, None)


def named_runs(value: Any) -> list[str]:
    """Return the runs of `runs=`: a path or a list, in which `outputs/2026*` names all run directories like it.

    Raises:
        ValueError: for something else, a pattern without a run, or a run that is named twice.
    """
    paths = [value] if isinstance(value, str) else value
    if not isinstance(paths, list) or not paths or not all(isinstance(path, str) and path for path in paths):
        raise ValueError(f"runs must name run directories, as in runs=[outputs/A,outputs/B], got {value}")
    runs: dict[Path, str] = {}
    for path in paths:
        matches = [path]
        if glob.has_magic(path) and not Path(path).exists():
            matches = [run for run in sorted(glob.glob(path)) if (Path(run) / "config.yaml").is_file()]
        if not matches:
            raise ValueError(f"runs={path}: there is no run directory like that")
        for run in matches:
            directory = Path(run).resolve()
            if directory in runs:
                raise ValueError(f"runs must all be different, got {runs[directory]} and {run}")
            runs[directory] = run
    return list(runs.values())

"""Command lines of a sweep or a comparison: keys of its own, and choices of every run."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Collection, Iterable
from typing import TYPE_CHECKING, Any

from hydra.errors import HydraException

from poslab.cli.mistakes import composition_mistake
from poslab.cli.words import parsed, refuse_repeated, refuse_spaces, undashed, unreadable, validate_overrides
from poslab.configuration.command_line import assignment

if TYPE_CHECKING:
    from poslab.experiments.comparison import Comparison
    from poslab.experiments.tuning.sweep import Sweep


ONE_OF_SEVERAL = (*("SLURM_NTASKS", "SLURM_PROCID", "TORCHELASTIC_RUN_ID", "RANK", "LOCAL_RANK", "JSM_NAMESPACE_RANK"),)
"""Environment variables that mark a run as one process of several; a worker's is never one, not even under srun."""

AS_TYPED = ("sweep", "comparison", "storage", "output", "name")
"""Keys whose values are names, URLs or paths, which need no quotes."""


def own_keys_and_overrides(
    arguments: list[str], command: str, own_keys: Collection[str]
) -> tuple[dict[str, Any], list[str]]:
    """Return the values of the own keys of a command, and the choices of every run as they were typed.

    Raises:
        ValueError: for an option, spaces around an equals sign, a key that is given twice, and values that Hydra cannot
            read.
    """
    given: dict[str, Any] = {}
    overrides: list[str] = []
    refuse_spaces(arguments)
    refuse_repeated(word for word in arguments if "=" in word)
    for argument in arguments:
        if argument in ("-m", "--multirun"):
            raise ValueError(f"{argument}: a {command} takes key=value alone; --help lists the keys")
        if argument.startswith("-"):
            raise ValueError(undashed(argument, arguments))
        key, equals, value = argument.partition("=")
        if key in AS_TYPED and key in own_keys and equals:
            given[key] = None if value == "null" else value
            continue
        try:
            (override,) = parsed([argument])
        except HydraException:
            raise ValueError(unreadable(argument, arguments, command)) from None
        if override.is_sweep_override() and key in own_keys:
            raise ValueError(f"{argument}: a list stands in brackets: write {shlex.quote(f'{key}=[{value}]')}")
        if override.is_sweep_override():
            raise ValueError(f"{argument}: what varies stands in the file of the {command}")
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
        own_keys: of the command, beside those of a run.
        explained: returns the sentence for a configuration that cannot be composed, from that of `composition_mistake`.

    Raises:
        ValueError: for a configuration that cannot be composed, and as `run`.
    """
    words = [*(assignment(key, value) for key, value in question.train.items()), *question.overrides]
    try:
        run()
    except HydraException as error:
        raise ValueError(explained(composition_mistake(error, "train", words, own_keys))) from error


def clear_distributed_env() -> None:
    """Forget that this process was started as one of several."""
    for name in ONE_OF_SEVERAL:
        os.environ.pop(name, None)

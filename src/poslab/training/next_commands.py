"""Commands that a person may want to type after a run, each of which works as it is printed."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence

from poslab.configuration.command_line import assignment, python_command, trusting
from poslab.encodings import Alibi, Rotary
from poslab.io.reading import read_json
from poslab.runs.directory import RunDirectory
from poslab.runs.recipe import Recipe
from poslab.tasks.language_modelling import LanguageModelling
from poslab.tasks.task import Task
from poslab.training.checking import check

COMPARED = {"alibi": Alibi, "rotary": Rotary}
"""Encodings that a run is compared with, as conf/encoding calls them."""

OF_HYDRA = "hydra.searchpath="
"""The one word of Hydra's that is kept with a run."""


def next_commands(run: RunDirectory, recipe: Recipe, task: Task) -> list[str]:
    """Return lines to copy: to look at a run, to use it, and to train others like it where its choices are known.

    Args:
        run: the run, which is finished.
        recipe: all that it is made of.
        task: what it has learned.
    """
    named = [assignment("run", run.path), *trusting(run.trust)]
    commands = {}
    if "tensorboard" in recipe.loggers():
        commands["look"] = shlex.join(["tensorboard", "--logdir", str(run.path.parent)])
    if isinstance(task, LanguageModelling):
        commands["evaluate"] = python_command("evaluate", *named)
        commands["write"] = f'{python_command("generate", *named)} prompt="The "'
    elif (prompt := task.example_prompt()) is not None:
        commands["answer"] = f"{python_command('generate', *named)} prompt={prompt}"
    choices = _choices(run)
    if choices is not None:
        # A whole configuration, such as best.yaml of a sweep, has no group `encoding` to choose from.
        if "--config-name" not in choices and (other := _other_encoding(recipe)) is not None:
            commands["compare"] = python_command("train", *without("encoding", choices), f"encoding={other}")
        more = assignment("init_from", run.path)
        commands["train on"] = python_command("train", *without("init_from", choices), more)
    return ["next:", *(f"  {name:<10}{command}" for name, command in commands.items())]


def _choices(run: RunDirectory) -> list[str] | None:
    """Return the words that a run was started with; None where they are not known, or no command of ours wrote them.

    A run that goes on may be a stranger's, and its words must not get someone to trust a package, or to give Hydra what
    it runs.
    """
    choices = read_json(run.environment_file).get("choices")
    if not isinstance(choices, list) or not all(isinstance(choice, str) for choice in choices):
        return None
    others = [choice.lstrip("+~") for choice in choices if not choice.startswith(OF_HYDRA)]
    trusts = [choice.partition("=")[2] for choice in others if choice.startswith("trust")]
    trusted = {name for typed in trusts for name in re.findall(r"[\w.]+", typed)}
    is_ours = not any(choice.startswith("hydra") for choice in others) and trusted <= set(run.trust)
    return choices if is_ours else None


def without(key: str, choices: Sequence[str]) -> list[str]:
    """Return choices but for those of a key and what is below it."""
    return [choice for choice in choices if re.match(rf"[+~]*({key}@)?{key}([=.]|$)", choice) is None]


def _other_encoding(recipe: Recipe) -> str | None:
    """Return an encoding that the same run could have; None where a choice of it rules them out."""
    own = getattr(recipe.model.encoding, "func", None)
    for name, encoding in COMPARED.items():
        if own is not encoding:
            node = {"_target_": f"{encoding.__module__}.{encoding.__name__}"}
            try:
                check({**recipe.config, "encoding": node})
            except ValueError:  # a fixed route of attention, or positions that it cannot have
                continue
            return name
    return None

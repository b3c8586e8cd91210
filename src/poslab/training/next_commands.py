"""Commands to copy after a run, each of which works as printed."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence

from poslab.configuration.command_line import assignment, poslab_command, trusting
from poslab.configuration.labels import choice_file
from poslab.configuration.of_pretrained import is_pretrained
from poslab.data.patched.source import PatchedSource
from poslab.encodings import Alibi, NoPosition, OwnPositions, PositionalEncoding, Rotary
from poslab.runs.directory import RunDirectory
from poslab.runs.recipe import Recipe
from poslab.tasks.task import Task
from poslab.training.checking import check

PARTNERS = {"alibi": Alibi, "rotary": Rotary}
"""Encodings to compare a run with, by their names in conf/encoding."""

PARTNERS_ON_AXES = {"rotary_axial": Rotary, "alibi_grid": Alibi}
"""The same for data whose tokens stand on several axes."""

PARTNERS_OF_PRETRAINED = {"own": OwnPositions, "none": NoPosition}

OF_HYDRA = "hydra.searchpath="
"""The only setting of Hydra that is kept with a run."""


def next_commands(run: RunDirectory, recipe: Recipe, task: Task) -> list[str]:
    """Return commands to inspect and use a finished run, and, if its choices are known, to train others like it."""
    named = [assignment("run", run.path), *trusting(run.trust)]
    commands = {}
    if "tensorboard" in recipe.loggers():
        commands["look"] = shlex.join(["tensorboard", "--logdir", str(run.path.parent)])
    commands["evaluate"] = poslab_command("evaluate", *named)
    if task.predicts_next_tokens:
        commands["write"] = f'{poslab_command("generate", *named)} prompt="The "'
    elif (prompt := task.example_prompt()) is not None:
        commands["answer"] = f"{poslab_command('generate', *named)} prompt={prompt}"
    choices = _choices(run)
    if choices is not None:
        if _leave_encoding_open(choices) and (other := _other_encoding(recipe)) is not None:
            commands["compare"] = poslab_command("train", *without("encoding", choices), f"encoding={other}")
        again = without("start", without("init_from", choices))  # a start would replace the trained encoding
        commands["train on"] = poslab_command("train", *again, assignment("init_from", run.path))
    return ["next:", *(f"  {name:<10}{command}" for name, command in commands.items())]


def _choices(run: RunDirectory) -> list[str] | None:
    """Return the words that a run was started with; None if they are unknown, or not written by a command of ours.

    A resumed run may be a stranger's, and its words must not make people trust a package, or make Hydra run something.
    """
    if (choices := run.choices()) is None:
        return None
    others = [choice.lstrip("+~") for choice in choices if not choice.startswith(OF_HYDRA)]
    trusts = [choice.partition("=")[2] for choice in others if choice.startswith("trust")]
    trusted = {name for typed in trusts for name in re.findall(r"[\w.]+", typed)}
    is_ours = not any(choice.startswith("hydra") for choice in others) and trusted <= set(run.trust)
    return without_repetition(choices) if is_ours else None


def without_repetition(choices: Sequence[str]) -> list[str]:
    """Return choices without those whose key is given again further on."""
    keys = [choice.partition("=")[0] if "=" in choice else None for choice in choices]
    return [
        choice for place, choice in enumerate(choices) if keys[place] is None or keys[place] not in keys[place + 1 :]
    ]


def without(key: str, choices: Sequence[str]) -> list[str]:
    """Return choices without those of a key and the keys below it."""
    return [choice for choice in choices if re.match(rf"[+~]*({key}@)?{key}([=.]|$)", choice) is None]


def _leave_encoding_open(choices: Sequence[str]) -> bool:
    """Return whether `encoding=` composes with choices.

    A whole configuration, such as best.yaml of a sweep, has no group to choose from, and an experiment may set keys of
    its own encoding.
    """
    experiments = [choice.partition("=")[2] for choice in choices if choice.startswith("experiment=")]
    files = [choice_file("experiment", name) for name in experiments]
    return "--config-name" not in choices and all(file and "encoding" not in file for file in files)


def _other_encoding(recipe: Recipe) -> str | None:
    """Return an encoding of another kind that the run could have; None if its other choices rule them out."""
    own = list(recipe.model.try_build().encodings)
    for name, kind in _partners(recipe).items():
        if not any(isinstance(encoding, kind) for encoding in own):
            try:
                check({**recipe.config, "encoding": choice_file("encoding", name)})
            except ValueError:  # a fixed route of attention, or positions that it cannot have
                continue
            return name
    return None


def _partners(recipe: Recipe) -> Mapping[str, type[PositionalEncoding]]:
    """Return encodings that serve the data of a run, by name: on pictures those that read its axes."""
    if is_pretrained(recipe.config["model"]):
        return PARTNERS_OF_PRETRAINED
    several = isinstance(recipe.source, PatchedSource) and len(recipe.source.axes) > 1
    return PARTNERS_ON_AXES if several else PARTNERS

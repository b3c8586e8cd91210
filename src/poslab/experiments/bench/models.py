"""Models that a benchmark compares: a pretrained model under several encodings, or the models of finished runs."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from poslab.configuration.command_line import CONF
from poslab.configuration.labels import labels
from poslab.data.source import require_choice
from poslab.evaluation.benchmarks.subjects import PretrainedSubject, RunSubject
from poslab.evaluation.command import PretrainedChoice
from poslab.experiments.existing import KnownRun, distinct_names, encoding_names, finished_run
from poslab.runs.loading import device_named
from poslab.runs.recipe import recipe_of

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def pretrained_subjects(
    choices: Sequence[PretrainedChoice], dtype: str, device: str, seed: int
) -> list[PretrainedSubject]:
    """Return a pretrained model under each encoding; ValueError for encodings that are the same, or another dtype."""
    require_choice("dtype", dtype, DTYPES)
    named = [choice.name or label for choice, label in zip(choices, labels([c.config for c in choices]), strict=True)]
    if len(set(named)) < len(named):
        raise ValueError(f"encodings must all be different, got {', '.join(named)}")
    chosen = device_named(device)
    return [
        PretrainedSubject(
            name, seed, choice.choices, choice.config["model"]["path"], chosen, choice.config, dtype=DTYPES[dtype]
        )
        for name, choice in zip(distinct_names(named), choices, strict=True)
    ]


def run_subjects(runs: Sequence[str], device: str, trust: Sequence[str]) -> list[RunSubject]:
    """Return the models of finished runs, whose encodings are named by what differs between them.

    Raises:
        ValueError: for a run that is not finished, or does not continue texts, or two of the same encoding and seed.
    """
    directories = [finished_run(path, trust) for path in runs]
    known = [KnownRun(directory, recipe_of(directory)) for directory in directories]
    for run in known:
        if not run.recipe.task.predicts_next_tokens:
            raise ValueError(f"run must be of a model that continues texts, and {run.run.path} has another task")
    names, chosen = encoding_names({"all": known}, known, CONF), device_named(device)
    keys = [(name, run.recipe.seed) for name, run in zip(names, known, strict=True)]
    if len(set(keys)) < len(keys):
        name, seed = max(keys, key=keys.count)
        raise ValueError(f"runs must differ in their encoding or their seed, and two are {name}, seed {seed}")
    return [
        RunSubject(
            name,
            run.recipe.seed,
            run.run.choices() or [],
            str(run.run.path),
            chosen,
            run.recipe.config,
            length=run.recipe.source.sequence_length,
            steps=int(run.run.metrics().get("steps", 1)),
            trust=trust,
        )
        for name, run in zip(names, known, strict=True)
    ]

"""Subjects of an evaluation, made: of a run, perhaps under another encoding, or of a pretrained model."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from poslab.configuration.build import full_keys
from poslab.configuration.labels import label, labels
from poslab.data.corpus import TextSplits, bytes_per_token
from poslab.data.kinds import WINDOWS as WINDOWS_OF_TEXT
from poslab.data.run_data import RunData
from poslab.data.source import check_split
from poslab.evaluation.evaluated_run import EvaluatedRun, Text
from poslab.runs.checkpoint import checkpoint_file, encoding_start, load_checkpoint, model_weights
from poslab.runs.directory import RunDirectory
from poslab.runs.loading import load, untrained
from poslab.runs.recipe import Recipe, recipe_of
from poslab.tasks.task import Task


def open_run(
    run: str | Path,
    split: str = "test",
    max_tokens: int | None = None,
    device: torch.device | str = "cpu",
    swap: Mapping[str, Any] | None = None,
    seed: int = 1,
    trust: str | Sequence[str] = (),
) -> EvaluatedRun:
    """Return the model of a run with its held-out data.

    Args:
        run: a run directory or a checkpoint in one.
        split: `test` or `validation`.
        max_tokens: tokens to read from the beginning of a text; None is all.
        device: for the model.
        swap: as of `load`: another encoding in place of its own, `rotary -> none`.
        seed: for the initial state of a swapped encoding.
        trust: as of `load`.

    Raises:
        ValueError: as of `load`, for another split, if the data of the run is missing or has changed, or for a swap in
            a run that does not predict the next token of a text.
    """
    check_split(split)
    directory = RunDirectory.of(run, trust)
    recipe = recipe_of(directory)
    if swap and not recipe.task.predicts_next_tokens:
        raise ValueError(
            f"encoding@swap serves runs that have learned to predict the next token of a text, and run={run} has "
            "learned another task"
        )
    if swap:
        torch.manual_seed(seed)
    with _keys_of_swap() if swap else nullcontext():
        model = load(run, device, swap, trust)
    checkpoint = load_checkpoint(checkpoint_file(run))
    data = trained_data(directory, recipe, checkpoint)
    task = _connected(recipe, data)
    name = recipe.encoding_name
    return EvaluatedRun(
        name=name if swap is None else f"{name} -> {label({**recipe.config, **swap})}",
        path=run,
        directory=directory,
        recipe=recipe,
        model=model,
        task=task,
        data=data,
        split=split,
        text=_text(data, split, max_tokens) if task.predicts_next_tokens else None,
        swap=dict(swap or {}),
        untrained=untrained(model, model_weights(checkpoint)) if swap else {},
        start=encoding_start(checkpoint),
        choices=directory.choices() or [],
    )


@contextmanager
def _keys_of_swap() -> Iterator[None]:
    """Name a key of the encoding of a swap in a ValueError as it is typed, `swap.base` and not `encoding.base`."""
    try:
        yield
    except ValueError as error:
        raise ValueError(re.sub(r"^encoding\.", "swap.", str(error))) from error


def open_pretrained(
    config: Mapping[str, Any],
    choices: Sequence[str],
    split: str = "test",
    max_tokens: int | None = None,
    device: torch.device | str = "cpu",
) -> EvaluatedRun:
    """Return a pretrained model before any training, with the held-out data of a run that would train it.

    Args:
        config: resolved configuration of that run.
        choices: words of the command line that composed it.
        split, max_tokens, device: as of `open_run`.

    Raises:
        ValueError: if the model or the data cannot be read, or for data that is not running text.
    """
    recipe = Recipe.of(config, to_train=True)
    if recipe.source.kind is not WINDOWS_OF_TEXT:
        raise ValueError(
            "dataset must be running text for a pretrained model before training, which has learned no other task, got "
            f"{type(recipe.source).__name__}"
        )
    data = _prepared(recipe)
    task = _connected(recipe, data)
    torch.manual_seed(recipe.seed)
    with full_keys("model", config):
        model = recipe.model.build(data.vocab_size + task.extra_tokens, None, data.tokenizer.digits)
    return EvaluatedRun(
        name=recipe.encoding_name,
        path=config["model"]["path"],
        directory=None,
        recipe=recipe,
        model=model.to(device).eval(),
        task=task,
        data=data,
        split=split,
        text=_text(data, split, max_tokens) if task.predicts_next_tokens else None,
        swap={},
        untrained=untrained(model, {}),
        start=None,
        choices=list(choices),
    )


def _connected(recipe: Recipe, data: RunData) -> Task:
    """Return the task of a run, connected to all of its data."""
    task = recipe.task.of(data)
    data.connect(task, None)
    return task


def _text(data: RunData, split: str, max_tokens: int | None) -> Text:
    """Return the text of a split, or its first tokens."""
    assert isinstance(data.splits, TextSplits)
    whole = np.asarray(data.splits.tokens(split))
    tokens, size = whole[:max_tokens], data.splits.bytes_per_token[split]
    if len(tokens) < len(whole):
        num_bytes = len(data.tokenizer.decode(tokens).encode())
        size = bytes_per_token(num_bytes, tokens, data.tokenizer, data.splits.boundary)
    return Text(tokens, size, data.splits.source.document_boundaries)


def trained_data(run: RunDirectory, recipe: Recipe, checkpoint: Mapping[str, Any]) -> RunData:
    """Return the data of a run, set up; ValueError if it is missing, or not what the checkpoint was trained on."""
    data = _prepared(recipe)
    trained_on = checkpoint.get(type(data).__qualname__)
    if trained_on is not None and trained_on != data.state_dict():
        raise ValueError(f"{run.path} was trained on another text than {type(recipe.source).__name__} has now")
    return data


def _prepared(recipe: Recipe) -> RunData:
    """Return the data of a run, set up."""
    data = recipe.data()
    with full_keys("dataset", recipe.config):
        data.prepare_data()
        data.setup("test")
    return data


def with_different_names(runs: list[EvaluatedRun], typed: Sequence[str]) -> list[EvaluatedRun]:
    """Return runs whose names differ, by their labels; equal ones get the end of their run's path as typed.

    Paths are all different.
    """
    configs = [run.recipe.config for run in runs]
    names = [
        f"{name} -> {label({**config, **run.swap})}" if run.swap else name
        for run, config, name in zip(runs, configs, labels(configs), strict=True)
    ]
    paths = [Path(path).parts for path in typed]

    def end(number: int) -> str:
        others = [paths[other] for other, name in enumerate(names) if name == names[number] and other != number]
        depth = next(n for n in range(1, 100) if all(other[-n:] != paths[number][-n:] for other in others))
        return "/".join(paths[number][-depth:])

    return [
        replace(run, name=f"{name} ({end(number)})" if names.count(name) > 1 else name)
        for number, (run, name) in enumerate(zip(runs, names, strict=True))
    ]

"""Subjects of an evaluation: opened runs, perhaps under another encoding, pretrained models, and their short texts."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from poslab.configuration.build import full_keys
from poslab.configuration.labels import label, labels
from poslab.data.corpus import TextSplits, bytes_per_token
from poslab.data.kinds import WINDOWS as WINDOWS_OF_TEXT
from poslab.data.run_data import RunData
from poslab.data.source import check_split
from poslab.evaluation.evaluated_run import EvaluatedRun, Text, on_device
from poslab.generation.decoding import beam_search
from poslab.models import ForwardPass
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
        swap: as of `load`: another encoding instead of the run's, `rotary -> none`.
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
            f"encoding@swap works with runs that have learned to predict the next token of a text, and run={run} has "
            "learned another task"
        )
    if swap:
        torch.manual_seed(seed)
    try:
        model = load(run, device, swap, trust)
    except ValueError as error:
        if not swap:
            raise
        raise ValueError(re.sub(r"^encoding\.", "swap.", str(error))) from error  # as its keys are typed
    checkpoint = load_checkpoint(checkpoint_file(run))
    data = trained_data(directory, recipe, checkpoint)
    task = _connected(recipe, data)
    name = recipe.encoding_name
    subject = recipe, model, task, data, split, _text(task, data, split, max_tokens)
    return EvaluatedRun(
        name if swap is None else f"{name} -> {label({**recipe.config, **swap})}",
        run,
        directory,
        *subject,
        swap=dict(swap or {}),
        untrained=untrained(model, model_weights(checkpoint)) if swap else {},
        start=encoding_start(checkpoint),
        choices=directory.choices() or [],
    )


def open_pretrained(
    config: Mapping[str, Any],
    choices: Sequence[str],
    split: str = "test",
    max_tokens: int | None = None,
    device: torch.device | str = "cpu",
) -> EvaluatedRun:
    """Return a pretrained model before any training, with the held-out data of a run that would train it.

    The configuration of that run is resolved, and `choices` are the words of the command line that composed it.
    ValueError if the model or the data cannot be read, or for data that is not running text.
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
    subject = recipe, model.to(device).eval(), task, data, split, _text(task, data, split, max_tokens)
    of_model, path = untrained(model, {}), config["model"]["path"]
    return EvaluatedRun(recipe.encoding_name, path, None, *subject, untrained=of_model, choices=list(choices))


def _connected(recipe: Recipe, data: RunData) -> Task:
    task = recipe.task.of(data)
    data.connect(task, None)
    return task


def _text(task: Task, data: RunData, split: str, max_tokens: int | None) -> Text | None:
    """Return the text of a split, or its first tokens; None where the task is another one."""
    if not task.predicts_next_tokens:
        return None
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


SHORT = 32  # longest text, in tokens, that is shown token by token


Labels = Mapping[str, tuple[list[str], list[str]]]  # texts of queries and keys, by stack


def short_example(run: EvaluatedRun, text: str | None) -> tuple[ForwardPass, Labels]:
    """Return a forward pass of a text (None is the run's own), at most `SHORT` tokens, and their labels, if any.

    A model with a source reads the text as its source. The target is what it writes or, for its own data, what is to be
    written. A model of images reads a whole one, whose patches have no text. ValueError for a text that is empty, or
    has symbols that are not in the task, and for any with images.
    """
    if run.reads_patches:
        if text is not None:
            raise ValueError(f"text must be null for runs on {run.recipe.source.kind.name} data, got {text!r:.40}")
        batch = _short_example(run)
        return lambda model: run.task.hidden_states(model, batch), {}
    if "source" in run.model.capabilities:
        end, most = run.tokenizer.end_id, min(SHORT, run.model.max_length or SHORT)
        if text is None:
            batch = _short_example(run)
            source_BS, target_BT = batch.source[:, :most], batch.target[:, :most]
        else:
            source_BS = _tensor(run, np.append(_encoded(run, text)[: most - 1], end)).unsqueeze(0)
            first = torch.full((1, 1), end, device=run.device)
            with torch.no_grad():
                (written,) = beam_search(run.model.begin(source_BS), first, max_new_tokens=most - 1, end_id=end)
            target_BT = torch.cat([first[0], written]).unsqueeze(0)
        source, target = (token_labels(run, tokens[0]) for tokens in (source_BS, target_BT))
        labels = {"encoder": (source, source), "self": (target, target), "cross": (target, source)}
        return lambda model: model(source_BS, target_BT), labels
    tokens_T = short_text(run, text)
    texts = token_labels(run, tokens_T)
    return lambda model: model.hidden_states(tokens_T.unsqueeze(0)), {"self": (texts, texts)}


def short_text(run: EvaluatedRun, text: str | None) -> Tensor:
    """Return the tokens of `short_example`, (T,), for a model that reads one text."""
    if text is not None:
        ids = _encoded(run, text)
    elif run.text is not None:
        ids = run.text.tokens
    else:
        ids = _short_example(run).tokens[0].cpu().numpy()
    return _tensor(run, ids[:SHORT][: run.model.max_length])


def token_labels(run: EvaluatedRun, tokens_T: Tensor) -> list[str]:
    """Return the text of each token; `<0>`, `<1>` ... for tokens without text."""
    labels, size = [], run.tokenizer.vocab_size
    for token in tokens_T.tolist():
        text = f"<{token - size}>" if token >= size else run.tokenizer.decode([token])
        labels.append(text or ("<end>" if token == run.tokenizer.end_id else "<answer>"))
    return labels


def _short_example(run: EvaluatedRun) -> Any:
    """Return the batch of the example whose number of tokens is nearest to `SHORT`."""
    of_lengths = [run.data.held_out(run.split, length) for length in run.trained_lengths]
    items = min(of_lengths, key=lambda items: np.abs(items.num_tokens - SHORT).min())
    nearest = int(np.abs(items.num_tokens - SHORT).argmin())
    return on_device(items.__getitems__([nearest]), run.device)


def _encoded(run: EvaluatedRun, text: str) -> np.ndarray:
    try:
        ids = run.tokenizer.encode(text)
    except ValueError as error:
        raise ValueError(f"text: {error}") from error
    if not len(ids):
        raise ValueError("text must not be empty, got an empty one")
    return ids


def _tensor(run: EvaluatedRun, ids: np.ndarray) -> Tensor:
    return torch.from_numpy(ids.astype(np.int64)).to(run.device)

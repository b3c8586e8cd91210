"""Subjects of an evaluation: trained models with their text, perhaps under another encoding.

Dimension letters: B windows, N tokens of the text.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from poslab.configuration.build import full_keys
from poslab.configuration.labels import label, labels
from poslab.data.datamodule import TextDataModule, bytes_per_token
from poslab.data.run_data import RunData
from poslab.data.tokenizers import Tokenizer
from poslab.io.reading import read_json
from poslab.models import Model
from poslab.runs.checkpoint import checkpoint_file, encoding_start, load_checkpoint, model_weights
from poslab.runs.directory import RunDirectory
from poslab.runs.loading import load, untrained
from poslab.runs.recipe import Recipe, recipe_of
from poslab.tasks.language_modelling import LanguageModelling
from poslab.tasks.task import device_of

WINDOWS = 8
"""Windows of the text over which attention and gradients are averaged."""

SHORT = 32
"""Longest text, in tokens, that is shown token by token."""


@dataclass(frozen=True)
class Subject:
    """A trained model and its text.

    Args:
        name: for tables and legends.
        run: directory of its training.
        recipe: of the run.
        model: in evaluation mode.
        tokenizer: of the run.
        tokens: (N,) of the text.
        bytes_per_token: of these tokens.
        keep_documents_apart: whether it was trained on documents one by one.
        swap: groups of the configuration that replace those of the run.
        untrained: numbers that a swapped encoding or temperature learns but no training has set, by its class.
        start: initial state of the run's own encodings; None if the run has not kept it.
    """

    name: str
    run: RunDirectory
    recipe: Recipe
    model: Model
    tokenizer: Tokenizer
    tokens: np.ndarray
    bytes_per_token: float
    keep_documents_apart: bool
    swap: Mapping[str, Any]
    untrained: Mapping[str, int]
    start: Mapping[str, Tensor] | None

    @property
    def device(self) -> torch.device:
        """Device of the model."""
        return device_of(self.model)

    @property
    def dataset(self) -> str:
        """Dataset as it was typed, `dataset=text`, or its class in words, `text files`, if it was not."""
        typed = None
        with contextlib.suppress(ValueError):  # the file is lost
            typed = read_json(self.run.environment_file).get("choices")
        choices = [word for word in (typed if isinstance(typed, list) else []) if str(word).startswith("dataset=")]
        in_words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", type(self.recipe.source).__name__).lower()
        return choices[-1] if choices else in_words

    @property
    def warnings(self) -> list[str]:
        """Reasons to doubt its results, a sentence each."""
        return [
            f"{owner} learns {count:,} numbers, which no training has set: the results of {self.name} are those of an "
            "untrained encoding"
            for owner, count in self.untrained.items()
        ]

    @property
    def training_length(self) -> int:
        """Tokens of a training window."""
        return self.recipe.source.sequence_length

    def windows(self, length: int, more: int = 0) -> Tensor:
        """Return the first windows of the text, at most `WINDOWS`, (B, length + more); within documents if kept apart.

        The length is shorter if the text or the encoding ends before; `more` tokens follow, to be predicted.
        """
        length = min(length, self.model.max_length or length, len(self.tokens) - more)
        starts = np.arange(0, len(self.tokens) - length - more + 1, length)
        if self.keep_documents_apart:
            ends = np.cumsum(self.tokens == self.tokenizer.end_id)
            inside = [start for start in starts if ends[start] == ends[start + length + more - 1]]
            starts = np.array(inside) if inside else starts
        starts = starts[:WINDOWS]
        windows = self.tokens[starts[:, None] + np.arange(length + more)].astype(np.int64)
        return torch.from_numpy(windows).to(self.device)

    def short_text(self, text: str | None) -> tuple[Tensor, list[str]]:
        """Return the first tokens of a text (None is the subject's own), at most `SHORT`, and the text of each.

        Raises:
            ValueError: for an empty text.
        """
        ids = self.tokens[:SHORT] if text is None else self.tokenizer.encode(text)[:SHORT]
        if not len(ids):
            raise ValueError("text must hold something, got an empty one")
        ids = ids[: self.model.max_length]
        labels = [self.tokenizer.decode([token]) for token in ids]
        return torch.from_numpy(ids.astype(np.int64)).to(self.device), labels


def subject(
    run: str | Path,
    split: str = "test",
    max_tokens: int | None = None,
    device: torch.device | str = "cpu",
    swap: Mapping[str, Any] | None = None,
    seed: int = 1,
    trust: str | Sequence[str] = (),
) -> Subject:
    """Return the model of a run with its held-out text.

    Args:
        run: a run directory or a checkpoint in one.
        split: `test` or `validation`.
        max_tokens: tokens to read from its beginning; None is all.
        device: for the model.
        swap: as of `load`: another encoding in place of its own, `Rotary -> NoPosition`.
        seed: for the initial state of a swapped encoding.
        trust: as of `load`.

    Raises:
        ValueError: as of `load`, if the text of the run is missing or has changed, or for a run of another task than
            language modelling.
    """
    directory = RunDirectory.of(run, trust)
    recipe = recipe_of(directory)
    if recipe.task is not LanguageModelling:
        raise ValueError(
            f"run={run} has learned another task than to predict the next token, which is evaluated here: its metrics "
            f"are in {directory.metrics_file}, and python -m src.generate answers with it"
        )
    if swap:
        torch.manual_seed(seed)
    model = load(run, device, swap, trust)
    checkpoint = load_checkpoint(checkpoint_file(run))
    data = trained_data(directory, recipe, checkpoint)
    assert isinstance(data, TextDataModule)
    name = recipe.encoding_name
    whole = np.asarray(data.tokens(split))
    tokens, size = whole[:max_tokens], data.bytes_per_token[split]
    if len(tokens) < len(whole):
        num_bytes = len(data.tokenizer.decode(tokens).encode())
        size = bytes_per_token(num_bytes, tokens, data.tokenizer, data.boundary)
    return Subject(
        name=name if swap is None else f"{name} -> {label({**recipe.config, **swap})}",
        run=directory,
        recipe=recipe,
        model=model,
        tokenizer=data.tokenizer,
        tokens=tokens,
        bytes_per_token=size,
        keep_documents_apart=data.corpus.document_boundaries,
        swap=dict(swap or {}),
        untrained=untrained(model, model_weights(checkpoint)) if swap else {},
        start=encoding_start(checkpoint),
    )


def trained_data(run: RunDirectory, recipe: Recipe, checkpoint: Mapping[str, Any]) -> RunData:
    """Return the data of a run, set up; ValueError if it is missing, or not what the checkpoint was trained on."""
    data = recipe.data()
    with full_keys("dataset", recipe.config):
        data.prepare_data()
        data.setup()
    trained_on = checkpoint.get(type(data).__qualname__)
    if trained_on is not None and trained_on != data.state_dict():
        raise ValueError(f"{run.path} was trained on another text than {type(recipe.source).__name__} has now")
    return data


def with_different_names(subjects: list[Subject], runs: Sequence[str]) -> list[Subject]:
    """Return subjects whose names differ, by their labels; equal ones get the end of their run's path as typed.

    Paths are all different.
    """
    configs = [one.recipe.config for one in subjects]
    names = [
        f"{name} -> {label({**config, **one.swap})}" if one.swap else name
        for one, config, name in zip(subjects, configs, labels(configs), strict=True)
    ]
    paths = [Path(run).parts for run in runs]

    def end(place: int) -> str:
        others = [paths[other] for other, name in enumerate(names) if name == names[place] and other != place]
        depth = next(n for n in range(1, 100) if all(other[-n:] != paths[place][-n:] for other in others))
        return "/".join(paths[place][-depth:])

    return [
        replace(one, name=f"{name} ({end(place)})" if names.count(name) > 1 else name)
        for place, (one, name) in enumerate(zip(subjects, names, strict=True))
    ]

"""Subjects of an evaluation: models with their held-out data, of runs or pretrained, perhaps under another encoding.

Dimension letters: B windows, T tokens, N tokens of the text.
"""

from __future__ import annotations

import contextlib
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from poslab.arguments import shown
from poslab.configuration.build import full_keys
from poslab.configuration.labels import choice_of, label, labels
from poslab.data.datamodule import TextDataModule, bytes_per_token
from poslab.data.kinds.windows import WINDOWS as WINDOWS_OF_TEXT
from poslab.data.patched.source import PatchedSource
from poslab.data.run_data import RunData
from poslab.data.tokenizers import Tokenizer
from poslab.evaluation.attention_rows import is_readable, reached_attention
from poslab.evaluation.grids import Grid
from poslab.io.reading import read_json
from poslab.models import ForwardPass, Model
from poslab.runs.checkpoint import checkpoint_file, encoding_start, load_checkpoint, model_weights
from poslab.runs.directory import RunDirectory
from poslab.runs.loading import load, untrained
from poslab.runs.recipe import Recipe, recipe_of
from poslab.tasks.task import Task, device_of

WINDOWS = 8
"""Windows of the text, or examples, over which attention and gradients are averaged."""

Ability = Literal["predictions", "next_tokens", "gradients", "attention", "rotation", "embeddings"]

ABILITIES: dict[Ability, str] = {
    "predictions": "an output layer with weights",
    "next_tokens": "a model that predicts the next token of a text",
    "gradients": "a model that predicts the next token of a text, or reads patches",
    "attention": "attention weights that can be read",
    "rotation": "an encoding that turns queries and keys",
    "embeddings": "a pretrained encoder on running text",
}
"""Abilities of a subject that a part of an evaluation may need, in words."""
OF_PRETRAINED: frozenset[Ability] = frozenset({"embeddings"})
"""Abilities of pretrained models alone: nothing is said of parts that need them where there is none."""


@dataclass(frozen=True)
class Text:
    """A held-out text whose next tokens a model predicts.

    Args:
        tokens: (N,) of the text.
        bytes_per_token: of these tokens.
        documents_apart: whether the model was trained on documents one by one.
    """

    tokens: np.ndarray
    bytes_per_token: float
    documents_apart: bool


@dataclass(frozen=True)
class Subject:
    """A model and its held-out data.

    Args:
        name: for tables and legends.
        path: run directory or checkpoint, or the directory of a pretrained model that no run has trained.
        run: directory of its training; None if no run has trained it.
        recipe: of the run, or of the run that would train it.
        model: in evaluation mode.
        task: of the run.
        data: of the run, connected to the task.
        split: of the data, `test` or `validation`.
        text: to be predicted token by token; None for another task.
        swap: groups of the configuration that replace those of the run.
        untrained: numbers that a swapped encoding or temperature learns but no training has set, by its class.
        start: initial state of the run's own encodings; None if the run has not kept it.
        choices: words of the command line that composed the recipe without a run.
    """

    name: str
    path: str | Path
    run: RunDirectory | None
    recipe: Recipe
    model: Model
    task: Task
    data: RunData
    split: str
    text: Text | None
    swap: Mapping[str, Any]
    untrained: Mapping[str, int]
    start: Mapping[str, Tensor] | None
    choices: Sequence[str] = ()

    @property
    def place(self) -> str | Path:
        """Directory of its run, or of the pretrained model."""
        return self.path if self.run is None else self.run.path

    @property
    def device(self) -> torch.device:
        """Device of the model."""
        return device_of(self.model)

    @property
    def tokenizer(self) -> Tokenizer:
        """Tokenizer of the run."""
        return self.data.tokenizer

    @cached_property
    def abilities(self) -> frozenset[Ability]:
        """Abilities that parts of an evaluation can build on."""
        turns = any(x.spectrum(self.training_length) is not None for x in self.model.encodings)
        turning = [x for x in self.model.encodings if x.reads_axes and "rotate_query" in x.hooks]
        turns = turns or (self.reads_patches and bool(turning))
        is_encoder = self.pretrained_length is not None and "bidirectional" in self.model.capabilities
        predicts = self.run is not None or self.model.has_trained_logits
        has: dict[Ability, bool] = {
            "predictions": predicts,
            "next_tokens": self.text is not None and predicts,
            "gradients": predicts and (self.text is not None or "patches" in self.task.needs),
            "attention": is_readable(self.model),
            "rotation": turns,
            "embeddings": is_encoder and isinstance(self.data, TextDataModule),
        }
        return frozenset(ability for ability, own in has.items() if own)

    @property
    def reads_patches(self) -> bool:
        """True if its tokens are patches or pixels of pictures, which have no text."""
        return isinstance(self.recipe.source, PatchedSource)

    @property
    def tokens(self) -> np.ndarray:
        """Token ids of the text to be predicted, (N,)."""
        assert self.text is not None
        return self.text.tokens

    @property
    def dataset(self) -> str:
        """Dataset as it was typed, `dataset=text`, or its class in words, `text files`, if it was not."""
        typed = self.choices if self.run is None else _choices(self.run)
        choices = [word for word in typed if word.startswith("dataset=")]
        in_words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", type(self.recipe.source).__name__).lower()
        return choices[-1] if choices else in_words

    @property
    def warnings(self) -> list[str]:
        """Reasons to doubt its results, a sentence each."""
        names = {
            str(node["_target_"]).rpartition(".")[2]: choice_of(self.swap, group).name
            for group, node in self.swap.items()
            if isinstance(node, Mapping)
        }
        untrained = [
            f"{names.get(owner, owner)} learns {count:,} numbers, which no training has set: the results of "
            f"{self.name} are those of an untrained encoding"
            for owner, count in self.untrained.items()
        ]
        return [*untrained, *self._turned_otherwise()]

    def _turned_otherwise(self) -> Iterator[str]:
        """Yield the hyperparameters in which a swap that continues the rotation of training differs from it."""
        own, new = self.recipe.config["encoding"], self.swap.get("encoding") or {}
        for name in dict.fromkeys(name for encoding in self.model.encodings for name in encoding.of_trained):
            if name in own and name in new and own[name] != new[name]:
                same = "" if isinstance(own[name], Mapping) else f": swap.{name}={shown(own[name])} is the same"
                yield f"{self.name} has another {name} than the model was trained with{same}"

    @property
    def training_length(self) -> int:
        """Most tokens of a window or an example of training."""
        return self.recipe.source.sequence_length

    @property
    def longest_trained(self) -> int:
        """Longest window or example of training, in the measure of the lengths of its figures."""
        return self.data.longest_trained

    @property
    def pretrained_length(self) -> int | None:
        """Length of the texts that a pretrained model was trained on by its authors; None for a model of ours."""
        facts = self.model.encodings.shape.pretrained
        return None if facts is None else facts.training_length

    @property
    def trained_at(self) -> str:
        """The texts of its training, in words."""
        if self.run is None:
            return f"by its authors alone, on texts of {self.pretrained_length:,} tokens"
        return f"on {self.task.length_words.trained.format(self.longest_trained)}"

    def place_of(self, length: int) -> str:
        """Return a length in words, with its preposition: `at a side of 28 pixels`."""
        preposition, words = self.task.length_words.at
        return f"{preposition} {words.format(length)}"

    def stack_title(self, stack: str) -> str:
        """Return the name of a stack of its model in words; nothing if there is only one."""
        words = {"self": "decoder", "cross": "cross-attention"}
        return words.get(stack, stack) if len(self.model.stacks) > 1 else ""

    def windows(self, length: int, more: int = 0) -> Tensor:
        """Return the first windows of the text, at most `WINDOWS`, (B, length + more); within documents if kept apart.

        The length is shorter if the text or the encoding ends before; `more` tokens follow, to be predicted.
        """
        assert self.text is not None
        tokens = self.text.tokens
        length = min(length, self.model.max_length or length, len(tokens) - more)
        starts = np.arange(0, len(tokens) - length - more + 1, length)
        if self.text.documents_apart:
            ends = np.cumsum(tokens == self.tokenizer.end_id)
            inside = [start for start in starts if ends[start] == ends[start + length + more - 1]]
            starts = np.array(inside) if inside else starts
        starts = starts[:WINDOWS]
        windows = tokens[starts[:, None] + np.arange(length + more)].astype(np.int64)
        return torch.from_numpy(windows).to(self.device)

    @cached_property
    def grid(self) -> Grid | None:
        """Grid of the patches of a training example; None for a text."""
        return self.grid_at(self.trained_lengths[-1]) if self.reads_patches else None

    def grid_at(self, length: int) -> Grid | None:
        """Return the grid of the first held-out example of a length, as the encodings read it."""
        first, *_ = reached_attention(self.model, partial(_read, self.task, self.example(length, 0)))
        return Grid.of(first.context.key_positions)

    def example(self, length: int, number: int) -> Any:
        """Return the batch of one held-out example of a length."""
        return on_device(self.data.held_out(self.split, length).__getitems__([number]), self.device)

    @property
    def reach(self) -> int:
        """Most tokens of `readings`: those of a training window of a text, and those that its encoding has."""
        most = self.model.max_length or sys.maxsize
        return most if self.text is None else min(self.training_length, most)

    @property
    def longest_item(self) -> int:
        """Tokens of the longest held-out example, or of the text."""
        if self.text is not None:
            return len(self.text.tokens) - 1
        of_lengths = [self.data.held_out(self.split, length).num_tokens for length in self.data.lengths_of(self.split)]
        return int(max(tokens.max() for tokens in of_lengths))

    def readings(self, most: int | None = None) -> Tensor | list[ForwardPass]:
        """Return windows of the text, (B, T), or what has a model read examples one by one, at most `WINDOWS`.

        They have at most `most` tokens (None: `reach`). Windows are as long as that, and examples are of the longest
        trained length that there is, else of the shortest one.
        """
        most = self.reach if most is None else most
        if self.text is not None:
            return self.windows(most)
        items = self.data.held_out(self.split, self.trained_lengths[-1])
        fitting = np.flatnonzero(items.num_tokens <= most)[:WINDOWS].tolist()
        batches = [on_device(items.__getitems__([number]), self.device) for number in fitting]
        return [partial(_read, self.task, batch) for batch in batches]

    @property
    def trained_lengths(self) -> list[int]:
        """The lengths of its data up to the longest trained one, else the shortest."""
        lengths = self.data.lengths_of(self.split)
        return [length for length in lengths if length <= self.longest_trained] or lengths[:1]


def on_device(batch: Any, device: torch.device) -> Any:
    """Return a batch on a device."""
    return type(batch)(*(part.to(device) if isinstance(part, Tensor) else part for part in batch))


def _read(task: Task, batch: Any, model: Model) -> Tensor:
    return task.logits(model, batch)


def subject(
    run: str | Path,
    split: str = "test",
    max_tokens: int | None = None,
    device: torch.device | str = "cpu",
    swap: Mapping[str, Any] | None = None,
    seed: int = 1,
    trust: str | Sequence[str] = (),
) -> Subject:
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
        ValueError: as of `load`, if the data of the run is missing or has changed, or for a swap in a run that does not
            predict the next token of a text.
    """
    directory = RunDirectory.of(run, trust)
    recipe = recipe_of(directory)
    if swap and not recipe.task.predicts_next_tokens:
        raise ValueError(
            f"encoding@swap serves runs that have learned to predict the next token of a text, and run={run} has "
            "learned another task"
        )
    if swap:
        torch.manual_seed(seed)
    model = load(run, device, swap, trust)
    checkpoint = load_checkpoint(checkpoint_file(run))
    data = trained_data(directory, recipe, checkpoint)
    task = _connected(recipe, data)
    name = recipe.encoding_name
    return Subject(
        name=name if swap is None else f"{name} -> {label({**recipe.config, **swap})}",
        path=run,
        run=directory,
        recipe=recipe,
        model=model,
        task=task,
        data=data,
        split=split,
        text=_text(data, split, max_tokens) if task.predicts_next_tokens else None,
        swap=dict(swap or {}),
        untrained=untrained(model, model_weights(checkpoint)) if swap else {},
        start=encoding_start(checkpoint),
    )


def pretrained_subject(
    config: Mapping[str, Any],
    choices: Sequence[str],
    split: str = "test",
    max_tokens: int | None = None,
    device: torch.device | str = "cpu",
) -> Subject:
    """Return a pretrained model before any training, with the held-out data of a run that would train it.

    Args:
        config: resolved configuration of that run.
        choices: words of the command line that composed it.
        split, max_tokens, device: as of `subject`.

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
    return Subject(
        name=recipe.encoding_name,
        path=config["model"]["path"],
        run=None,
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


def _choices(run: RunDirectory) -> list[str]:
    """Return the words that composed the configuration of a run; none if their file is lost."""
    with contextlib.suppress(ValueError):
        typed = read_json(run.environment_file).get("choices")
        return list(map(str, typed)) if isinstance(typed, list) else []
    return []


def _text(data: RunData, split: str, max_tokens: int | None) -> Text:
    """Return the text of a split, or its first tokens."""
    assert isinstance(data, TextDataModule)
    whole = np.asarray(data.tokens(split))
    tokens, size = whole[:max_tokens], data.bytes_per_token[split]
    if len(tokens) < len(whole):
        num_bytes = len(data.tokenizer.decode(tokens).encode())
        size = bytes_per_token(num_bytes, tokens, data.tokenizer, data.boundary)
    return Text(tokens, size, data.corpus.document_boundaries)


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
        data.setup()
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

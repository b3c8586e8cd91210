"""Evaluated runs: models with their held-out data, of runs or pretrained, perhaps under another encoding.

Dimension letters: B windows, T tokens, N tokens of the text, A axes.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from poslab.arguments import shown
from poslab.configuration.labels import choice_of
from poslab.data.patched.source import PatchedSource
from poslab.data.run_data import RunData
from poslab.data.tokenizers import Tokenizer
from poslab.encodings import Positions
from poslab.encodings.layers import encoding_of
from poslab.evaluation.attention.maps import capture_attention, is_readable
from poslab.models import ForwardPass, Model
from poslab.runs.directory import RunDirectory
from poslab.runs.recipe import Recipe
from poslab.runs.trainer_settings import autocast, precision_of
from poslab.tasks.task import Task, device_of

MAX_WINDOWS = 8  # windows of the text, or examples, over which attention and gradients are averaged

Ability = Literal["predictions", "next_tokens", "gradients", "attention", "rotation"]

ABILITIES: dict[Ability, str] = {
    "predictions": "an output layer with weights",
    "next_tokens": "a model that predicts the next token of a text",
    "gradients": "a model that predicts the next token of a text, or reads patches",
    "attention": "attention weights that can be read",
    "rotation": "an encoding that rotates queries and keys",
}
"""Abilities of a run that a part of an evaluation may need, in words."""


class Grid(NamedTuple):
    """The grid of the patches of an example."""

    axes: tuple[str, ...]  # names of its axes, the outermost first
    sizes: tuple[int, ...]  # number of cells on each axis
    # difference of the coordinates of the last and the first cell on each axis; one less than the size, unless a
    # sampler moves the cells
    span: tuple[float, ...]
    lengths: tuple[int, ...]  # of the axes, on which some spectra depend (`Positions.lengths`)

    @classmethod
    def of(cls, positions: Positions) -> Grid | None:
        """Return the first grid of at least two cells in the first row of positions; None if there is none."""
        grid = positions.places
        if grid is None:
            return None
        sizes_TA, coordinates_TA = (x if x.dim() == 2 else x[0] for x in (grid.sizes, grid.coordinates))
        grids_T = grid.grids if grid.grids.dim() == 1 else grid.grids[0]
        is_cell_T = sizes_TA.prod(-1) > 1
        if not is_cell_T.any():
            return None
        first = int(is_cell_T.int().argmax())
        of_grid = coordinates_TA[is_cell_T & (grids_T == grids_T[first])].double()
        span = (of_grid.amax(0) - of_grid.amin(0)).tolist()
        return cls(grid.axes, tuple(sizes_TA[first].tolist()), tuple(span), positions.lengths)


@dataclass(frozen=True)
class Text:
    """A held-out text, (N,) tokens, and their bytes per token.

    `documents_apart` is true if the model was trained on documents one by one.
    """

    tokens: np.ndarray
    bytes_per_token: float
    documents_apart: bool


@dataclass(frozen=True)
class EvaluatedRun:
    """A model and its held-out data."""

    name: str  # for tables and legends
    # run directory or checkpoint, or the directory of a pretrained model that no run has trained
    path: str | Path
    directory: RunDirectory | None  # of its training; None if no run has trained it
    recipe: Recipe  # of the run, or of the run that would train it
    model: Model  # in evaluation mode
    task: Task
    data: RunData  # of the run, connected to the task
    split: str  # of the data, `test` or `validation`
    text: Text | None  # to be predicted token by token; None for another task
    swap: Mapping[str, Any] = field(default_factory=dict)  # groups of the configuration that replace the run's
    # numbers that a swapped encoding or temperature learns but no training has set, by its class
    untrained: Mapping[str, int] = field(default_factory=dict)
    # initial state of the run's own encodings; None if the run has not kept it
    start: Mapping[str, Tensor] | None = None
    choices: Sequence[str] = ()  # words of the command line that composed the recipe, as far as they are known

    @property
    def location(self) -> str | Path:
        """Directory of its run, or of the pretrained model."""
        return self.path if self.directory is None else self.directory.path

    @property
    def device(self) -> torch.device:
        """Device of the model."""
        return device_of(self.model)

    def autocast(self) -> torch.autocast:
        """Return the context in which the model computes as in its training."""
        return autocast(None if self.directory is None else precision_of(self.directory), self.device)

    @property
    def tokenizer(self) -> Tokenizer:
        return self.data.tokenizer

    @cached_property
    def abilities(self) -> frozenset[Ability]:
        """Abilities that parts of an evaluation can build on."""
        rotates = any(x.spectrum(self.training_length) is not None for x in self.model.encodings)
        on_axes = any(x.reads_axes and "rotate_query" in x.hooks for x in self.model.encodings)
        predicts = self.directory is not None or self.model.has_trained_logits
        has: dict[Ability, bool] = {
            "predictions": predicts,
            "next_tokens": self.text is not None and predicts,
            "gradients": predicts and (self.text is not None or "patches" in self.task.needs),
            "attention": is_readable(self.model, self._forward_example() if self.reads_patches else None),
            "rotation": rotates or (self.reads_patches and on_axes),
        }
        return frozenset(ability for ability, holds in has.items() if holds)

    @property
    def reads_patches(self) -> bool:
        """True if its tokens are patches or pixels of images, which have no text."""
        return isinstance(self.recipe.source, PatchedSource)

    @property
    def tokens(self) -> np.ndarray:
        """Token ids of the text to be predicted, (N,)."""
        assert self.text is not None
        return self.text.tokens

    @property
    def dataset(self) -> str:
        """Dataset as it was typed, `dataset=text`, or its class in words, `text files`, if it was not."""
        choices = [word for word in self.choices if word.startswith("dataset=")]
        in_words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", type(self.recipe.source).__name__).lower()
        return choices[-1] if choices else in_words

    @property
    def warnings(self) -> list[str]:
        """Reasons to doubt its results, a sentence each."""
        doubts = []
        if self.directory is not None and not self.directory.is_finished:
            steps = self.recipe.trainer.max_steps
            doubts.append(
                f"the run of {self.name} is not finished: it may have learned in fewer than its {steps:,} steps"
            )
        names = {
            str(node["_target_"]).rpartition(".")[2]: choice_of(self.swap, group).name
            for group, node in self.swap.items()
            if isinstance(node, Mapping)
        }
        doubts += [
            f"{names.get(owner, owner)} learns {count:,} numbers, which no training has set: the results of "
            f"{self.name} belong to an untrained encoding"
            for owner, count in self.untrained.items()
        ]
        if "encoding" in self.swap:
            for name, trained in self._rotation_mismatch().items():
                is_key = name in self.swap["encoding"] and not isinstance(trained, tuple)
                same = f": swap.{name}={shown(trained)} is the same" if is_key else ""
                doubts.append(f"{self.name} has another {name} than the model was trained with{same}")
        return doubts

    def _rotation_mismatch(self) -> dict[str, Any]:
        """Return the hyperparameters of training from which a layer of a swap differs, though it goes on rotating.

        They are by name, of the last layer that differs; a scaling is the pair of its function and its arguments.
        """
        swapped, differing = self.model.encodings, dict[str, Any]()
        trained = self.recipe.model.pattern.of_layers(swapped.shape.num_layers)
        for layer, specs in enumerate(zip(trained, swapped.specs, strict=True)):
            before, now = (_arguments(encoding_of(spec)) for spec in specs)
            names = [name for name in swapped.layer(layer).of_trained if name in before]
            differing |= {name: before[name] for name in names if before[name] != now[name]}
        return differing

    @property
    def training_length(self) -> int:
        """Most tokens of a window or an example of training."""
        return self.recipe.source.sequence_length

    @property
    def pretrained_length(self) -> int | None:
        """Length of the texts that a pretrained model was trained on by its authors; None for a Poslab model."""
        facts = self.model.encodings.shape.pretrained
        return None if facts is None else facts.training_length

    @property
    def trained_at(self) -> str:
        """The texts of its training, in words."""
        if self.directory is None:
            return f"only by its authors, on texts of {self.pretrained_length:,} tokens"
        return f"on {self.task.length_words.trained.format(self.data.longest_trained)}"

    def at_length(self, length: int) -> str:
        """Return a length in words, with its preposition: `at a side of 28 pixels`."""
        preposition, words = self.task.length_words.at
        return f"{preposition} {words.format(length)}"

    def stack_title(self, stack: str) -> str:
        """Return the name of a stack of its model in words; nothing if there is only one."""
        words = {"self": "decoder", "cross": "cross-attention"}
        return words.get(stack, stack) if len(self.model.stacks) > 1 else ""

    def windows(self, length: int, more: int = 0) -> Tensor:
        """Return the first windows of the text, at most `MAX_WINDOWS`, (B, length + more), within documents if apart.

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
        starts = starts[:MAX_WINDOWS]
        windows = tokens[starts[:, None] + np.arange(length + more)].astype(np.int64)
        return torch.from_numpy(windows).to(self.device)

    @cached_property
    def grid(self) -> Grid | None:
        """Grid of the patches of a training example; None for a text."""
        return self.grid_at(self.trained_lengths[-1]) if self.reads_patches else None

    def grid_at(self, length: int) -> Grid | None:
        """Return the grid of the first held-out example of a length, as the encodings read it."""
        first, *_ = capture_attention(self.model, self._forward_example(length))
        return Grid.of(first.context.key_positions)

    def _forward_example(self, length: int | None = None) -> ForwardPass:
        """Return a forward pass of the first held-out example of a length; None is the longest of training."""
        return partial(_forward, self.task, self.example(length or self.trained_lengths[-1], 0))

    def example(self, length: int, number: int) -> Any:
        """Return the batch of one held-out example of a length."""
        return on_device(self.data.held_out(self.split, length).__getitems__([number]), self.device)

    @property
    def reach(self) -> int:
        """Most tokens of `inputs`: as many as the encoding has, for a text at most a training window."""
        most = self.model.max_length or sys.maxsize
        return most if self.text is None else min(self.training_length, most)

    @property
    def longest_item(self) -> int:
        """Tokens of the longest held-out example, or of the text."""
        if self.text is not None:
            return len(self.text.tokens) - 1
        lengths = self.data.lengths_of(self.split)
        return int(max(self.data.held_out(self.split, length).num_tokens.max() for length in lengths))

    def inputs(self, most: int | None = None) -> Tensor | list[ForwardPass]:
        """Return windows of the text, (B, T), or forward passes of one example each, at most `MAX_WINDOWS`.

        They have at most `most` tokens (None: `reach`). Windows are as long as that, and examples are of the longest
        training length that there is, else of the shortest one.
        """
        most = self.reach if most is None else most
        if self.text is not None:
            return self.windows(most)
        items = self.data.held_out(self.split, self.trained_lengths[-1])
        fitting = np.flatnonzero(items.num_tokens <= most)[:MAX_WINDOWS].tolist()
        batches = [on_device(items.__getitems__([number]), self.device) for number in fitting]
        return [partial(_forward, self.task, batch) for batch in batches]

    @property
    def trained_lengths(self) -> list[int]:
        """The lengths of its data up to the longest trained one, else the shortest."""
        lengths = self.data.lengths_of(self.split)
        return [length for length in lengths if length <= self.data.longest_trained] or lengths[:1]


def on_device(batch: Any, device: torch.device) -> Any:
    return type(batch)(*(part.to(device) if isinstance(part, Tensor) else part for part in batch))


def _forward(task: Task, batch: Any, model: Model) -> Tensor:
    return task.logits(model, batch)


def _arguments(factory: Callable[..., Any]) -> dict[str, Any]:
    """Return the arguments of a factory that are bound or have defaults, so that they can be compared."""
    given = {name: parameter.default for name, parameter in inspect.signature(factory).parameters.items()}
    return {
        name: (value.func, _arguments(value)) if isinstance(value, partial) else value
        for name, value in given.items()
        if value is not inspect.Parameter.empty
    }

"""Initial weights of a model from another run, and the start of its encoding (`start`)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from functools import partial

import torch
from lightning.fabric.utilities import move_data_to_device
from torch import Tensor

from poslab.configuration.build import trusted_packages
from poslab.data.run_data import RunData
from poslab.data.tokenizers import Tokenizer, load_tokenizer
from poslab.io.files import read_json
from poslab.models import ForwardPass, Model, ModelRecipe
from poslab.runs.checkpoint import checkpoint_file, load_weights
from poslab.runs.directory import RunDirectory
from poslab.runs.loading import load
from poslab.runs.processes import broadcast_from_rank0, rank_zero_first
from poslab.runs.recipe import Recipe, recipe_of
from poslab.tasks.task import Task

OF_TOKENS = ("embedding.weight", "encoder.embedding.weight", "decoder.embedding.weight", "output.weight")
"""Weights with a row for each token: first tokens of the tokenizer, then tokens of the task, such as a mask."""


def initialise_from(model: Model, source: str, tokenizer: Tokenizer, classes: Sequence[str] = ()) -> list[str]:
    """Load the weights of another run into a model, as far as they fit; return a line for each that does not.

    The source is a checkpoint, or a run directory for its best checkpoint. If it has the tokenizer of the training
    data, its tokens keep their rows, whatever tokens either task adds. If it has another one, no row is kept: the same
    number represents another token. The same is true of an output layer of other `classes`, of which a task that
    predicts tokens has none. ValueError for an unknown run, or one without any weight that fits.
    """
    source_weights, weights = load_weights(checkpoint_file(source)), model.state_dict()
    known, known_classes = None, None
    with contextlib.suppress(ValueError):  # a checkpoint outside of its run
        run = RunDirectory.of(source)
        known, known_classes = load_tokenizer(run.path), read_json(run.task_file).get("classes", [])
    lines = _keep_rows(source_weights, weights, tokenizer.vocab_size) if tokenizer == known else []
    foreign: dict[str, str] = {}
    if known not in (None, tokenizer):
        size = _vocab_size(source_weights)  # which the output layer of a classifier does not have
        of_tokens = (name for name in OF_TOKENS if name in source_weights and len(source_weights[name]) == size)
        foreign |= dict.fromkeys(of_tokens, "the tokens of another tokenizer")
    if classes and known_classes not in (None, list(classes)) and model.task_output is not None:
        outputs = {id(weight) for weight in model.task_output.parameters()}
        names = (name for name, weight in model.named_parameters() if id(weight) in outputs)
        foreign |= dict.fromkeys(names, "other classes")
    reasons: dict[str, str] = {}
    for name in sorted(weights.keys() | source_weights.keys()):
        there, here = source_weights.get(name), weights.get(name)
        if here is None:
            reasons[name] = "is not in this model, and was left out"
        elif there is None:
            reasons[name] = "is not in that run, and starts afresh"
        elif here.shape != there.shape:
            shapes = f"{tuple(there.shape)} there, {tuple(here.shape)} here"
            reasons[name] = f"has another shape ({shapes}), and starts afresh"
        elif name in foreign:
            reasons[name] = f"has {foreign[name]} there, and starts afresh"
    fitting = {name: weight for name, weight in source_weights.items() if name not in reasons}
    tied = {"embedding.weight", "output.weight"} <= weights.keys() & source_weights.keys() and (
        weights["embedding.weight"].data_ptr() == weights["output.weight"].data_ptr()
    )
    if tied and not torch.equal(source_weights["embedding.weight"], source_weights["output.weight"]):
        fitting.pop("output.weight", None)
        lines.append("output.weight is the embedding here, and another matrix there, which was left out")
    if not fitting:
        shared = sorted(weights.keys() & source_weights.keys())[:1]
        differ = [
            f": {name} is {tuple(source_weights[name].shape)} there, {tuple(weights[name].shape)} here"
            for name in shared
        ]
        raise ValueError(f"init_from={source} has no weights that fit this model{''.join(differ)}")
    model.load_state_dict(fitting, strict=False)
    return [*lines, *(f"{name} {reason}" for name, reason in reasons.items())]


def _keep_rows(source_weights: dict[str, Tensor], weights: Mapping[str, Tensor], num_tokens: int) -> list[str]:
    """Replace the rows of their weights after the tokenizer's rows by Poslab's; return a line for each matrix."""
    # The output layer of a classifier has another size than the vocabulary.
    sizes = _vocab_size(source_weights), _vocab_size(weights)
    lines: dict[int, str] = {}
    for name in [name for name in OF_TOKENS if name in weights.keys() & source_weights.keys()]:
        there, here = source_weights[name], weights[name]
        if (len(there), len(here)) == sizes and len(there) != len(here) and there.shape[1:] == here.shape[1:]:
            source_weights[name] = torch.cat([there[:num_tokens], here[num_tokens:]])
            rows = f"{len(there):,} rows there, {len(here):,} here"
            line = f"{name} takes the {num_tokens:,} rows of the tokenizer ({rows}), and any others start afresh"
            lines.setdefault(here.data_ptr(), line)
    return list(lines.values())


def _vocab_size(weights: Mapping[str, Tensor]) -> int | None:
    """Return the number of tokens of a model; None for one of a user's own, which may have other names."""
    return next((len(weights[name]) for name in OF_TOKENS if name in weights), None)


def check_start(recipe: Recipe, model: Model, begins_with: Recipe | None = None) -> None:
    """Check a start that needs earlier positions, as far as it can be without data, on a model on no device.

    `begins_with` is the recipe of a run that is still to be trained, with which it will begin; None if none is.
    """
    if model.encodings.keeps_pretrained_positions:
        raise ValueError("start must be fresh under encoding=pretrained, which replaces nothing")
    if begins_with is not None:
        earlier = begins_with.model
    elif recipe.init_from is not None:
        try:
            run = RunDirectory.of(recipe.init_from, trusted_packages(recipe.config))
            earlier = recipe_of(run).model
        except ValueError as error:
            raise ValueError(f"init_from: {error}") from error
    else:
        earlier = _untouched(recipe)
    recipe.start.check(model, earlier.on_meta)


def begin_encoding(recipe: Recipe, model: Model, task: Task, data: RunData) -> list[str]:
    """Set the first values of the encodings of a model on the CPU; return a line for each that says how it begins.

    The first process sets them, and the others get its values. No random number of the run moves. ValueError if the
    encoding cannot begin from the earlier positions of the model.
    """
    lines: list[str] = []

    def begin() -> None:
        with torch.random.fork_rng(devices=[]):
            lines.extend(_begin(recipe, model, task, data))

    rank_zero_first(begin)
    model.encodings.load_state_dict(broadcast_from_rank0(model.encodings.state_dict()))
    return lines


def _begin(recipe: Recipe, model: Model, task: Task, data: RunData) -> list[str]:
    device = torch.device("cuda" if recipe.trainer.on_gpu else "cpu")
    vocab_size = data.vocab_size + task.extra_tokens
    if recipe.init_from is not None:
        run = RunDirectory.of(recipe.init_from, trusted_packages(recipe.config))
        earlier, longest = load(recipe.init_from, trust=run.trust), recipe_of(run).source.sequence_length
        if recipe.start.batches and load_tokenizer(run.path) != data.tokenizer:
            raise ValueError(f"start: the model of init_from={recipe.init_from} must read the tokens of this run")
        if recipe.start.batches and earlier.embedding.num_embeddings < vocab_size:
            raise ValueError(
                f"start: the model of init_from={recipe.init_from} must know the tokens of this task besides "
                f"its text: {earlier.embedding.num_embeddings} tokens there, {vocab_size} here"
            )
    else:
        earlier = _untouched(recipe).build(vocab_size, task.outputs, data.tokenizer.digits)
        earlier.load_state_dict(model.state_dict(), strict=False)  # with the rows of tokens that the task adds
        facts = model.encodings.shape.pretrained
        assert facts is not None
        longest = facts.training_length
    if earlier.max_length is not None:
        longest = min(longest, earlier.max_length)
    pieces = recipe.trainer.data_parallel * recipe.trainer.micro_batches(data.batch_size)

    def readings() -> Iterator[ForwardPass]:
        for batch in data.first_batches(recipe.start.batches, pieces):
            read = task.first_tokens(move_data_to_device(batch, device), longest)
            yield partial(task.hidden_states, batch=read)

    return recipe.start.apply(model, earlier.to(device).eval(), readings())


def _untouched(recipe: Recipe) -> ModelRecipe:
    """Return the recipe of the pretrained model of a run with its own positions; ValueError for a new model."""
    untouched = recipe.model.untouched()
    if untouched is None:
        name = type(recipe.start).__name__.lower()
        raise ValueError(f"start={name} needs a model with earlier positions: init_from= a run, or model=pretrained")
    return untouched

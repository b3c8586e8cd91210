"""The beginning of the encoding of a run, by its recipe (`start`)."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import torch
from lightning.fabric.utilities import move_data_to_device

from poslab.configuration.build import trusted_packages
from poslab.data.run_data import RunData
from poslab.data.tokenizers import load_tokenizer
from poslab.models import ForwardPass, Model, ModelRecipe
from poslab.runs.directory import RunDirectory
from poslab.runs.loading import load
from poslab.runs.processes import broadcast_from_rank0, rank_zero_first
from poslab.runs.recipe import Recipe, recipe_of
from poslab.tasks.task import Task


def check_start(recipe: Recipe, model: Model, begins_with: Recipe | None = None) -> None:
    """Check a start that needs earlier positions as far as it can be without data.

    Args:
        recipe: of the run.
        model: its model, on no device.
        begins_with: recipe of a run that is still to be trained, with which it will begin; None if none is.

    Raises:
        ValueError: in one sentence that begins with `start` or `init_from`.
    """
    if model.encodings.keeps_pretrained_positions:
        raise ValueError("start must be fresh under encoding=own, which exchanges nothing")
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
    recipe.start.check(model, earlier.try_build())


def begin_encoding(recipe: Recipe, model: Model, task: Task, data: RunData) -> list[str]:
    """Set the first values of a model's encodings; return a line for each that says how it begins.

    The first process sets them, and the others get its values. No random number of the run moves.

    Args:
        recipe: of the run, checked by `check_start`.
        model: its model on the CPU, with the weights that it begins with.
        task: its task.
        data: its data, connected to the task.

    Raises:
        ValueError: in one sentence, if the model has earlier positions from which the encoding cannot begin.
    """
    if not recipe.start.needs_earlier:
        return []
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
                f"start: the model of init_from={recipe.init_from} must know the tokens of this task beside those of "
                f"text: {earlier.embedding.num_embeddings} tokens there, {vocab_size} here"
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

"""Initial weights of a model from another run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from poslab.data.tokenizers import Tokenizer, load_tokenizer
from poslab.io.reading import read_json
from poslab.models import Model
from poslab.runs.checkpoint import checkpoint_file, load_weights
from poslab.runs.directory import RunDirectory

OF_TOKENS = ("embedding.weight", "encoder.embedding.weight", "decoder.embedding.weight", "output.weight")
"""Weights with a row for each token: first those of the tokenizer, then those of the task, such as a mask."""


def initialise_from(model: Model, source: str, tokenizer: Tokenizer, classes: Sequence[str] = ()) -> list[str]:
    """Load the weights of another run into a model, as far as they fit; return a line for each that does not.

    The source is a checkpoint, or a run directory for its best checkpoint. If it has the tokenizer of the training
    data, its tokens keep their rows, whatever tokens either task adds. If it has another one, no row is kept: the same
    number stands for another token. The same holds for an output layer of other classes.

    Args:
        model: of the task.
        source: a checkpoint, or a run directory.
        tokenizer: of the training data.
        classes: names of the outputs of the task, in their order; none if it predicts tokens.

    Raises:
        ValueError: for an unknown run, or one without any weight that fits.
    """
    theirs, ours = load_weights(checkpoint_file(source)), model.state_dict()
    known = _tokenizer_of(source)
    lines = _keep_rows(theirs, ours, tokenizer.vocab_size) if tokenizer == known else []
    foreign = {} if known in (None, tokenizer) else dict.fromkeys(_of_tokens(theirs), "the tokens of another tokenizer")
    if classes and _classes_of(source) not in (None, list(classes)):
        foreign |= dict.fromkeys(_of_outputs(model), "other classes")
    fitting = {
        name: weight
        for name, weight in theirs.items()
        if name in ours and ours[name].shape == weight.shape and name not in foreign
    }
    one_matrix = {"embedding.weight", "output.weight"} <= ours.keys() & theirs.keys() and (
        ours["embedding.weight"].data_ptr() == ours["output.weight"].data_ptr()
    )
    if one_matrix and not torch.equal(theirs["embedding.weight"], theirs["output.weight"]):
        fitting.pop("output.weight", None)
        lines.append("output.weight is the embedding here, and another matrix there, which was left out")
    if not fitting:
        shared = sorted(ours.keys() & theirs.keys())[:1]
        differ = [f": {name} is {tuple(theirs[name].shape)} there, {tuple(ours[name].shape)} here" for name in shared]
        raise ValueError(f"init_from={source} holds no weights that fit this model{''.join(differ)}")
    model.load_state_dict(fitting, strict=False)
    for name in sorted(ours.keys() | theirs.keys()):
        if name not in ours:
            lines.append(f"{name} is not in this model, and was left out")
        elif name not in theirs:
            lines.append(f"{name} is not in that run, and starts afresh")
        elif ours[name].shape != theirs[name].shape:
            shapes = f"{tuple(theirs[name].shape)} there, {tuple(ours[name].shape)} here"
            lines.append(f"{name} has another shape ({shapes}), and starts afresh")
        elif name in foreign:
            lines.append(f"{name} has {foreign[name]} there, and starts afresh")
    return lines


def _tokenizer_of(source: str) -> Tokenizer | None:
    """Return the tokenizer of a run; None for a checkpoint outside of its run."""
    try:
        return load_tokenizer(RunDirectory.of(source).path)
    except ValueError:
        return None


def _classes_of(source: str) -> Any:
    """Return what a run says of its classes, [] if nothing; None for a checkpoint outside of its run."""
    try:
        return read_json(RunDirectory.of(source).task_file).get("classes", [])
    except ValueError:
        return None


def _keep_rows(theirs: dict[str, Tensor], ours: Mapping[str, Tensor], num_tokens: int) -> list[str]:
    """Replace the rows of their weights after those of the tokenizer by ours; return a line for each matrix."""
    # The output layer of a classifier has another size than the vocabulary.
    sizes = _vocab_size(theirs), _vocab_size(ours)
    lines: dict[int, str] = {}
    for name in [name for name in OF_TOKENS if name in ours.keys() & theirs.keys()]:
        there, here = theirs[name], ours[name]
        if (len(there), len(here)) == sizes and len(there) != len(here) and there.shape[1:] == here.shape[1:]:
            theirs[name] = torch.cat([there[:num_tokens], here[num_tokens:]])
            rows = f"{len(there):,} rows there, {len(here):,} here"
            line = f"{name} takes the {num_tokens:,} rows of the tokenizer ({rows}), and any others start afresh"
            lines.setdefault(here.data_ptr(), line)
    return list(lines.values())


def _of_tokens(weights: Mapping[str, Tensor]) -> set[str]:
    """Return the names of the weights with a row for each token; the output layer of a classifier has none."""
    size = _vocab_size(weights)
    return {name for name in OF_TOKENS if name in weights and len(weights[name]) == size}


def _of_outputs(model: Model) -> set[str]:
    """Return the names of the weights of the output layer of a task."""
    layer = model.task_output
    own = set() if layer is None else {id(weight) for weight in layer.parameters()}
    return {name for name, weight in model.named_parameters() if id(weight) in own}


def _vocab_size(weights: Mapping[str, Tensor]) -> int | None:
    """Return the number of tokens of a model; None for one of a user's own, which may have other names."""
    return next((len(weights[name]) for name in OF_TOKENS if name in weights), None)

"""Trained runs in use: predictions, and directories of Hugging Face's transformers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from poslab.configuration.build import is_pretrained
from poslab.data.tokenizers import Tokenizer, load_tokenizer
from poslab.models import Model
from poslab.pretrained.export.directory import Exported, check_target, write_directory
from poslab.pretrained.export.hosted import exchange_of
from poslab.pretrained.hosted import HostedModel
from poslab.runs.directory import RunDirectory
from poslab.runs.loading import device_named, load
from poslab.runs.recipe import recipe_of
from poslab.tasks.task import Prediction, Search

Server = Callable[[str], Prediction]


def serve(
    run: str | Path,
    device: torch.device | str = "cpu",
    *,
    beams: int = 1,
    length_penalty: float = 1.0,
    max_new_tokens: int = 400,
    trust: str | Sequence[str] = (),
) -> Server:
    """Return a function that predicts, for a text or a file, what a run has learned.

        classify = poslab.serve("outputs/2026-01-31_12-00-00_trec_rotary")
        classify("Who wrote Hamlet?").text

    A text is an example: to be classified (two of them separated by a tab), a source, a question and its
    context separated by a tab, or symbols of an algorithmic task separated by spaces. For an image or a sound it is the
    path of its file: the function predicts the class, or writes the caption. An image is resized to the side of
    training; a sound is read from its beginning, for the seconds of training.

    Args:
        run: run directory, for its best checkpoint by validation, or one of its checkpoints.
        device: device of the model; `auto` is a GPU if there is one.
        beams, length_penalty, max_new_tokens: search for an answer of many tokens, as in `beam_search`.
        trust: as in `load`.

    Raises:
        ValueError: as `load` does; for a device that this machine lacks; for fewer than 1 beam, or several where
            nothing is written token by token, as by a classifier; for a model of only text or pixels, which has no
            answer (`poslab.generation.decoding.generate` continues a text); and by the function, for a text or file
            that its task cannot read, and for any video.
    """
    directory = RunDirectory.of(run, trust)
    if type(beams) is not int or beams < 1:
        raise ValueError(f"beams must be a positive integer, got {beams}")
    recipe = recipe_of(directory)
    try:
        record = recipe.task.record_type.read(directory.task_file)
        task = recipe.task.restored(record, load_tokenizer(directory.path), recipe.source)
    except ValueError as error:
        raise ValueError(f"run={run} cannot answer: {error}") from error
    if beams > 1 and "beams" not in task.generation_options:
        raise ValueError(f"beams must be 1 for a model that does not write token by token, got {beams}")
    model = load(run, device_named(str(device)), trust=trust)
    search = Search(beams, length_penalty, max_new_tokens)
    return lambda text: task.predict(model, text, search)


LONGEST = 1024
"""Most tokens of the texts on which a pretrained model and its export are compared, unless a length is given."""


def export(
    run: Any,
    to: str | Path,
    *,
    tokenizer: Tokenizer | None = None,
    length: int | None = None,
    trust: str | Sequence[str] = (),
) -> Exported:
    """Write a decoder, or a pretrained model under another encoding, as a directory that transformers loads.

        poslab.export("outputs/2026-01-31_12-00-00_python_docs_rotary", "my-model")
        AutoModelForCausalLM.from_pretrained("my-model")

    The class is one of transformers where that is exact, else one under an encoding of Poslab, which loads with
    `trust_remote_code=True`, or after `poslab.pretrained.register()`. The directory is loaded in a fresh process and
    compared with the model before it takes its place.

    Args:
        run: run directory, for its best checkpoint by validation, one of its checkpoints, or a model: one of Poslab, or
            one of transformers after `poslab.exchange`.
        to: a new or an empty directory.
        tokenizer: tokenizer of a model of ours; None writes none. A run has its own, and that of a pretrained model is
            copied.
        length: training length of a model, in tokens. A run has its own; of a pretrained model, None is the length that
            it was trained at, at most 1,024, to which the comparison takes time.
        trust: as in `load`.

    Returns:
        The class that was written, the largest difference of two logits that was measured, and differences in use.

    Raises:
        ValueError: as `load` does; if `to` is taken; for a run of another task than predicting tokens, or a model or an
            encoding that no class can be; if transformers is missing; if the logits differ.
    """
    check_target(to)
    if not isinstance(run, str | Path):
        return _of_model(run, to, tokenizer, length)
    if tokenizer is not None or length is not None:
        raise ValueError("tokenizer and length are those of the run: leave them out")
    directory = RunDirectory.of(run, trust)
    recipe = recipe_of(directory)
    if is_pretrained(recipe.config["model"]):
        length = recipe.config["dataset"].get("sequence_length")
        return _of_model(load(run, trust=trust), to, None, length, recipe.config["model"]["path"])
    if not recipe.task.predicts_next_tokens:
        raise ValueError(f"run={run} cannot be exported: it is not a language model, and transformers has no such task")
    length = recipe.source.sequence_length
    return write_directory(load(run, trust=trust), to, load_tokenizer(directory.path), length)


def _of_model(
    model: Any, to: str | Path, tokenizer: Tokenizer | None, length: int | None, tokenizer_of: str | None = None
) -> Exported:
    """Export a model; arguments, result and errors as of `export` and `write_directory`."""
    if length is None and (isinstance(model, HostedModel) or not isinstance(model, Model)):
        exchange = exchange_of(model)
        length = min(exchange.family.facts(exchange.model.config).training_length, LONGEST)
    if type(length) is not int or length < 2:
        raise ValueError(f"length must be the training length of the model, at least 2 tokens, got {length}")
    return write_directory(model, to, tokenizer, length, tokenizer_of)

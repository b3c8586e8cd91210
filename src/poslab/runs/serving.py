"""Predictions of a trained run for a text, or for the file of a picture or a sound."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from poslab.data.tokenizers import load_tokenizer
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

        classify = poslab.serve("outputs/2026-01-31_12-00-00_question_types_rotary")
        classify("Who wrote Hamlet?").text

    A text is that of an example: to be classified (two of them separated by a tab), a source, a question and its
    context separated by a tab, or symbols of an algorithmic task separated by spaces. Of a picture or a sound it is the
    path of its file: the function predicts the class, or writes the caption. A picture is brought to the side of
    training; a sound is read from its beginning, for the seconds of training.

    Args:
        run: run directory, for its best checkpoint by validation, or one of its checkpoints.
        device: device of the model; `auto` is a GPU if there is one.
        beams, length_penalty, max_new_tokens: search for an answer of many tokens, as in `beam_search`.
        trust: as in `load`.

    Raises:
        ValueError: as `load` does; for a device that this machine lacks; for fewer than 1 beam, or several where
            nothing is written token by token, as by a classifier; for a model of text or pixels alone, which has no
            answer (`poslab.generation.streaming.generate` continues a text); and by the function, for a text or file
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

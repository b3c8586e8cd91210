"""Trained runs as directories of Hugging Face's transformers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from poslab.data.tokenizers import Tokenizer, load_tokenizer
from poslab.models import Model
from poslab.pretrained.export.directory import Exported, check_target, write_directory
from poslab.runs.directory import RunDirectory
from poslab.runs.loading import load
from poslab.runs.recipe import recipe_of


def export(
    run: str | Path | Model,
    to: str | Path,
    *,
    tokenizer: Tokenizer | None = None,
    length: int | None = None,
    trust: str | Sequence[str] = (),
) -> Exported:
    """Write a decoder as a directory that transformers loads without code beside it.

        poslab.export("outputs/2026-01-31_12-00-00_python_docs_rotary", "my-model")
        AutoModelForCausalLM.from_pretrained("my-model")

    The directory is loaded in a fresh process and compared with the model before it takes its place.

    Args:
        run: run directory, for its best checkpoint by validation, one of its checkpoints, or a model.
        to: a new or an empty directory.
        tokenizer: tokenizer of a model; None writes none. A run has its own.
        length: training length of a model, in tokens. A run has its own.
        trust: as in `load`.

    Returns:
        What was written: class, largest difference of two logits that was measured, and differences in use.

    Raises:
        ValueError: as `load` does; if `to` is taken; for a run that is not of a language model, or a model or an
            encoding that no class of transformers can be; if transformers is missing; if the logits differ.
    """
    check_target(to)
    if isinstance(run, Model):
        if type(length) is not int or length < 2:
            raise ValueError(f"length must be the training length of the model, at least 2 tokens, got {length}")
        return write_directory(run, to, tokenizer, length)
    if tokenizer is not None or length is not None:
        raise ValueError("tokenizer and length are those of the run: leave them out")
    directory = RunDirectory.of(run, trust)
    recipe = recipe_of(directory)
    if not recipe.task.predicts_next_tokens:
        raise ValueError(f"run={run} cannot be exported: it is not a language model, and transformers has no such task")
    length = recipe.config["dataset"]["sequence_length"]
    return write_directory(load(run, trust=trust), to, load_tokenizer(directory.path), length)

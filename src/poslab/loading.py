"""From a run directory to its trained model."""

from __future__ import annotations

from pathlib import Path

import torch

from poslab.checkpoint import checkpoint_file, load_checkpoint, model_weights
from poslab.data.tokenizers import load_tokenizer
from poslab.models import Decoder, build_model
from poslab.run_directory import RunDirectory


def load(run: str | Path, device: torch.device | str = "cpu") -> Decoder:
    """The trained model of a run, in evaluation mode.

        model = poslab.load("outputs/2026-01-31_12-00-00_python_docs_rotary")
        tokenizer = load_tokenizer("outputs/2026-01-31_12-00-00_python_docs_rotary")
        logits_BTV = model(torch.from_numpy(tokenizer.encode("A list is")).long().unsqueeze(0))

    Args:
        run: a run directory, whose best checkpoint by validation is taken, or one of its checkpoints.
        device: where the model is put.

    Returns:
        The model with the weights as they were trained: float32, or bfloat16 after `trainer.precision=bf16-true`.

    Raises:
        ValueError: if there is no such run, or its checkpoint is missing, damaged, of something else, or holds code.
    """
    directory = RunDirectory.of(run)
    config = directory.config()
    if not {"model", "encoding"} <= config.keys():
        raise ValueError(f"{directory.path} is not a run directory: its config.yaml names no model and encoding")
    file = checkpoint_file(run)
    weights = model_weights(load_checkpoint(file))
    vocab_size = load_tokenizer(directory.path).vocab_size
    model = build_model(config, vocab_size)
    model.to(next(iter(weights.values())).dtype)
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise ValueError(f"the checkpoint {file} does not fit the model in {directory.config_file}") from error
    return model.to(device).eval()

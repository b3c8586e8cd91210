"""From a run directory to its trained model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from poslab.checkpoint import checkpoint_file, load_checkpoint, model_weights
from poslab.data.tokenizers import load_tokenizer
from poslab.models import EncoderDecoder, Model, Outputs, build_model
from poslab.run_directory import RunDirectory

ENCODINGS = "encodings."
"""With what the names of the parameters of encodings and temperatures begin."""


def load(
    run: str | Path, device: torch.device | str = "cpu", swap: Mapping[str, Mapping[str, Any] | None] | None = None
) -> Model:
    """The trained model of a run, in evaluation mode.

        model = poslab.load("outputs/2026-01-31_12-00-00_python_docs_rotary")
        tokenizer = load_tokenizer("outputs/2026-01-31_12-00-00_python_docs_rotary")
        logits_BTV = model(torch.from_numpy(tokenizer.encode("A list is")).long().unsqueeze(0))

    Args:
        run: a run directory, whose best checkpoint by validation is taken, or one of its checkpoints.
        device: where the model is put.
        swap: another encoding, positions or temperature in place of the run's own, by group, as conf/ has them:
            `{"encoding": {"_target_": "poslab.encodings.NoPosition"}}`. What it learns is as at initialisation.

    Returns:
        The model with the weights as they were trained: float32, or bfloat16 after `trainer.precision=bf16-true`.

    Raises:
        ValueError: if there is no such run, or its checkpoint is missing, damaged, of something else, or holds code; or
            for a swap that does not fit the model.
    """
    directory = RunDirectory.of(run)
    config = directory.config() | dict(swap or {})
    if not {"model", "encoding"} <= config.keys():
        raise ValueError(f"{directory.path} is not a run directory: its config.yaml names no model and encoding")
    file = checkpoint_file(run)
    weights = model_weights(load_checkpoint(file))
    tokenizer = load_tokenizer(directory.path)
    task = directory.task()
    outputs = Outputs(*task["outputs"]) if task.get("outputs") else None
    model = build_model(config, tokenizer.vocab_size + task.get("extra_tokens", 0), outputs, tokenizer.digits)
    model.to(next(iter(weights.values())).dtype)
    if swap and isinstance(model, EncoderDecoder):
        raise ValueError("swap serves models of one stack, and this one has an encoder and a decoder")
    if swap:
        fresh = {name: weight for name, weight in model.state_dict().items() if name.startswith(ENCODINGS)}
        weights = {name: weight for name, weight in weights.items() if not name.startswith(ENCODINGS)} | fresh
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise ValueError(f"the checkpoint {file} does not fit the model in {directory.config_file}") from error
    return model.to(device).eval()


def device_named(name: str) -> torch.device:
    """The device of that name; `auto` is a GPU where there is one.

    Raises:
        ValueError: if this machine has none.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError, TypeError) as error:
        raise ValueError(f"device must be auto, or one that this machine has, such as cpu, got {name}") from error

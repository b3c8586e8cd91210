"""Run directories without training, for tests of what reads them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf

from poslab.configuration.build import build
from poslab.data.tokenizers import ByteTokenizer, Tokenizer
from poslab.encodings import EncodingFactory
from poslab.models import Model
from poslab.runs.checkpoint import OWN_STATE, save_atomically
from poslab.runs.directory import RunDirectory
from tests.training.runs import unresolved

CONF = Path(__file__).parents[1] / "conf"


def write_run(
    path: Path,
    *overrides: str,
    tokenizer: Tokenizer | None = None,
    dtype: torch.dtype = torch.float32,
    model: dict[str, Any] | None = None,
) -> RunDirectory:
    """A run of `debug=fast` at 64 tokens, whose best and last checkpoint hold different random weights.

    `model` is the node of another model than the choice of conf/.
    """
    tokenizer = tokenizer or ByteTokenizer()
    composed = unresolved("debug=fast", "dataset.sequence_length=64", *overrides)
    config = OmegaConf.to_container(composed, resolve=True)
    assert isinstance(config, dict)
    config |= {} if model is None else {"model": model}
    run = RunDirectory(path)
    run.start(config, environment={})
    tokenizer.save(path)
    for seed, file in enumerate((run.best_checkpoint, run.last_checkpoint)):
        torch.manual_seed(seed)
        encoding = build(config, "encoding", EncodingFactory)
        made = build(config, "model", Model, vocab_size=tokenizer.vocab_size, encoding=encoding)
        weights = {f"model.{name}": weight for name, weight in made.to(dtype).state_dict().items()}
        save_atomically({"state_dict": weights, "callbacks": {OWN_STATE: {}}}, file)
    return run

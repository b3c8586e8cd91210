"""Everything that can be known to be wrong with a run before anything slow starts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from poslab.configuration import build, with_full_key
from poslab.data.corpus import Corpus
from poslab.encodings import EncodingFactory, StackEncodings
from poslab.models.decoder import decoder_shape
from poslab.training.settings import TrainerSettings


def check(config: Mapping[str, Any]) -> TrainerSettings:
    """Builds, on no device, whatever is quick to build of a run.

    Args:
        config: the resolved configuration.

    Returns:
        How the run is trained.

    Raises:
        ValueError: one sentence that names the key.
    """
    seed = config["seed"]
    if not isinstance(seed, int) or isinstance(seed, bool) or not 0 <= seed < 2**32:
        raise ValueError(f"seed must be an integer from 0 to 4294967295, got {seed}")
    settings: TrainerSettings = build(config, "trainer")
    build(config, "optimizer")
    corpus: Corpus = build(config, "dataset")
    try:
        corpus.check()
    except ValueError as error:
        raise ValueError(with_full_key(str(error), "dataset", config)) from error
    encoding: EncodingFactory = build(config, "encoding")
    with torch.device("meta"):
        encodings = _encodings(encoding, config)
        build(config, "model", vocab_size=2, encoding=encoding)
    if encodings.max_length is not None and encodings.max_length < config['dataset']['sequence_length']:
        raise ValueError(
            f"encoding.max_length={encodings.max_length} ends before dataset.sequence_length={config['dataset']['sequence_length']}"
        )
    micro_batches(settings, config["dataset"]["batch_size"], settings.local_processes * settings.num_nodes)
    return settings


def micro_batches(settings: TrainerSettings, batch_size: int, processes: int) -> int:
    """How many micro-batches a process makes of its share of the global batch.

    Raises:
        ValueError: if the batch cannot be shared out.
    """
    if batch_size % processes:
        raise ValueError(f"dataset.batch_size must be divisible by the number of devices, {processes}, got {batch_size}")
    share = batch_size // processes
    micro_batch_size = settings.micro_batch_size or share
    if share % micro_batch_size:
        raise ValueError(
            f"trainer.micro_batch_size must divide the {share} windows that each device has of a batch, "
            f"got {micro_batch_size}"
        )
    return share // micro_batch_size


def _encodings(encoding: EncodingFactory, config: Mapping[str, Any]) -> StackEncodings:
    model = config["model"]
    try:
        shape = decoder_shape(
            *(model[key] for key in ("d_model", "num_layers", "num_heads", "num_kv_heads", "head_dim"))
        )
    except ValueError as error:
        raise ValueError(f"model.{error}") from error
    try:
        return StackEncodings(encoding, shape)
    except ValueError as error:
        raise ValueError(with_full_key(str(error), "encoding", config)) from error

"""Everything that can be known to be wrong with a run before anything slow starts."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from poslab.configuration.build import build, with_full_key
from poslab.data.data_source import DataSource

if TYPE_CHECKING:
    from poslab.data.sources import AnySource
    from poslab.models import Model
    from poslab.training.settings import TrainerSettings


def check(config: Mapping[str, Any], checkpoint: Path | None = None) -> TrainerSettings:
    """Builds, on no device, whatever is quick to build of a run.

    Args:
        config: the resolved configuration.
        checkpoint: what the run resumes from; None starts anew.

    Returns:
        How the run is trained.

    Raises:
        ValueError: one sentence that names the key.
    """
    seed = config["seed"]
    if not isinstance(seed, int) or isinstance(seed, bool) or not 0 <= seed < 2**32:
        raise ValueError(f"seed must be an integer from 0 to 4294967295, got {seed}")
    source: AnySource = build(config, "dataset", DataSource)
    try:
        source.check()
    except ValueError as error:
        raise ValueError(with_full_key(str(error), "dataset", config)) from error

    import torch  # takes a second; a mistake in what was checked before is told without it

    from poslab.training.optimizer import AdamWithCosine
    from poslab.training.settings import TrainerSettings

    settings: TrainerSettings = build(config, "trainer", TrainerSettings)
    build(config, "optimizer", AdamWithCosine)
    from poslab.models import build_model
    from poslab.tasks.task_kinds import check_task, kind_of

    with torch.device("meta"):
        # Which tokens its data has is known when that is prepared.
        model = build_model(config, vocab_size=2, digits=[0])
    check_task(config, source)
    _check_memory(model, settings)
    _check_positions(model, source.sequence_length)
    if settings.strategy == "fsdp" and kind_of(source) == "pairs":
        raise ValueError(
            "trainer.strategy must not be fsdp for pairs of texts, whose targets each process writes by itself"
        )
    micro_batches(settings, source.batch_size, settings.local_processes * settings.num_nodes)
    _check_checkpoints(config["init_from"], checkpoint)
    return settings


def _check_memory(model: Model, settings: TrainerSettings) -> None:
    """Raise ValueError if weights, gradients and the optimizer's state alone are larger than the memory."""
    from poslab.training.environment import memory_bytes

    parameters = sum(parameter.numel() for parameter in model.parameters())
    sharing = settings.local_processes * settings.num_nodes if settings.strategy == "fsdp" else 1
    needed = parameters * (8 if settings.precision == "bf16-true" else 16) / sharing
    here = needed if settings.on_gpu else needed * settings.local_processes
    memory = memory_bytes(settings.on_gpu)
    if here > memory:
        raise ValueError(
            f"model has {parameters:,} parameters, which take at least {here / 1e9:,.1f} GB to train, and there are "
            f"{memory / 1e9:,.1f} GB here: choose a smaller size, or trainer=fsdp on several GPUs"
        )


def _check_positions(model: Model, sequence_length: int) -> None:
    """Raises ValueError if a model has no positions for the longest texts that it is to be trained on."""
    sampler, end = model.position_sampler, model.encodings.max_length
    if sampler is not None and sampler.max_length is not None and sampler.max_length < sequence_length:
        raise ValueError(
            f"positions.max_position={sampler.max_length} ends before dataset.sequence_length={sequence_length}"
        )
    if sampler is not None and sampler.real:
        _embed_real_positions(model)
    stop = sequence_length if sampler is None else sampler.stop(sequence_length)
    if end is not None and end < stop:
        asked = f"dataset.sequence_length={sequence_length}"
        if stop > sequence_length:
            asked = f"position {stop - 1}, which {type(sampler).__name__} positions reach: it must be at least {stop}"
        raise ValueError(f"encoding.max_length={end} ends before {asked}")


def _embed_real_positions(model: Model) -> None:
    """Raises ValueError, in the words of the encoding, if it takes integers alone."""
    import torch

    from poslab.encodings import Positions, Tokens

    with torch.device("meta"):
        x_BTM, ids_BT = torch.empty(1, 1, model.shape.d_model), torch.zeros(1, 1, dtype=torch.int64)
        model.encodings.embed(x_BTM, Positions(torch.empty(1), stop=1), Tokens(ids_BT))


def micro_batches(settings: TrainerSettings, batch_size: int, processes: int) -> int:
    """How many micro-batches a process makes of its share of the global batch.

    Raises:
        ValueError: if the batch cannot be shared out.
    """
    if batch_size % processes:
        raise ValueError(
            f"dataset.batch_size must be divisible by the number of devices, {processes}, got {batch_size}"
        )
    share = batch_size // processes
    micro_batch_size = settings.micro_batch_size or share
    if share % micro_batch_size:
        raise ValueError(
            f"trainer.micro_batch_size must divide the {share} windows that each device has of a batch, "
            f"got {micro_batch_size}"
        )
    return share // micro_batch_size


def _check_checkpoints(init_from: str | None, checkpoint: Path | None) -> None:
    from poslab.runs.checkpoint import checkpoint_file, load_checkpoint

    key = "init_from" if checkpoint is None else "resume"
    try:
        if checkpoint is not None:
            load_checkpoint(checkpoint)
        elif init_from is not None:
            load_checkpoint(checkpoint_file(str(init_from)))
    except ValueError as error:
        raise ValueError(f"{key}: {error}") from error

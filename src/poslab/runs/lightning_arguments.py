"""Arguments of Lightning's Trainer that a configuration passes through: `+trainer.lightning.max_time=00:02:00:00`."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from poslab.arguments import check_arguments, nearest

SET_BY = {
    **{name: f"trainer.{name}" for name in ("accelerator", "devices", "num_nodes", "strategy", "precision")},
    **{name: f"trainer.{name}" for name in ("max_steps", "deterministic", "profiler")},
    **dict.fromkeys(("max_epochs", "min_epochs", "min_steps", "limit_train_batches"), "trainer.max_steps"),
    **dict.fromkeys(("val_check_interval", "check_val_every_n_epoch", "num_sanity_val_steps"), "trainer.validations"),
    **dict.fromkeys(("gradient_clip_val", "gradient_clip_algorithm"), "optimizer.gradient_clip"),
    "accumulate_grad_batches": "trainer.micro_batch_size",
    "log_every_n_steps": "trainer.log_every",
    "enable_checkpointing": "trainer.saves",
    "callbacks": "the group callbacks",
    "logger": "the group logger",
    "default_root_dir": "hydra.run.dir",
    "fast_dev_run": "debug=fast",
    "overfit_batches": "debug=overfit",
}
"""Arguments that Poslab sets itself, each with what sets it."""

FIXED = {
    *("plugins", "barebones", "inference_mode", "use_distributed_sampler", "reload_dataloaders_every_n_epochs"),
    *("enable_progress_bar", "limit_test_batches", "limit_predict_batches", "model_registry"),
}
"""Arguments that a run does not leave open: its tests read everything, and its order of the data is its own."""


def open_arguments() -> list[str]:
    """Return the names of the arguments that pass through."""
    import lightning as L

    return sorted(inspect.signature(L.Trainer).parameters.keys() - SET_BY.keys() - FIXED)


def check_lightning_arguments(given: Mapping[str, Any]) -> None:
    """Check names and types of arguments, and ranges by making a trainer of them.

    Raises:
        ValueError: naming the key.
    """
    import lightning as L
    from lightning.fabric.utilities.exceptions import MisconfigurationException
    from lightning.pytorch.callbacks import Timer

    parameters = inspect.signature(L.Trainer, eval_str=True).parameters
    open_ones = open_arguments()
    for name in given:
        if name in SET_BY:
            raise ValueError(f"trainer.lightning.{name} must be left out: {SET_BY[name]} sets it")
        if name not in open_ones:
            raise ValueError(
                f"trainer.lightning.{name} must be one of {', '.join(open_ones)}{nearest(name, open_ones)}"
            )
    check_arguments(given, parameters, "trainer.lightning.")
    if given.get("limit_val_batches") == 0:
        raise ValueError("trainer.lightning.limit_val_batches must be above 0: validations choose the state to keep")
    try:
        trainer = L.Trainer(
            accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False, **given
        )
    except (MisconfigurationException, TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"trainer.lightning: {error}") from error
    callbacks = trainer.callbacks  # type: ignore[attr-defined]  # which Lightning sets without declaring it
    timer = next((callback for callback in callbacks if isinstance(callback, Timer)), None)
    if timer is not None and (timer.time_remaining() or 0) <= 0:
        raise ValueError(f"trainer.lightning.max_time must be above 0, got {given['max_time']}")

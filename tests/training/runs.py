"""Runs of a very small model over a few steps, in this process, as the command makes them."""

from __future__ import annotations

import copy
import csv
import random
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig
from torch import Tensor

from poslab.data.composed import resolved
from poslab.runs.checkpoint import load_checkpoint
from poslab.runs.directory import RunDirectory
from poslab.runs.errors import RunInterruptedError
from poslab.runs.recipe import Recipe
from poslab.training.checking import check
from poslab.training.checkpoints import StopOnSignals
from poslab.training.fit import train, train_here
from poslab.training.resume import Plan

CONF = Path(__file__).parents[2] / "conf"

WORDS = "time of the sea and wind that moved a ship under every star until morning came back home"

SMALL = (
    *("model.d_model=16", "model.num_layers=1", "model.num_heads=2"),
    *("dataset=text", "dataset.sequence_length=16", "dataset.batch_size=4", "dataset.length_multiples=[1,2]"),
    *("trainer=cpu", "trainer.precision=32-true", "trainer.max_steps=4", "trainer.validations=2"),
    *("trainer.log_every=1", "optimizer.lr=3e-3"),
)


def composed(*overrides: str) -> dict[str, Any]:
    """The resolved configuration of conf/train.yaml under these choices."""
    return copy.deepcopy(_resolved(*overrides))


@lru_cache(512)
def _resolved(*overrides: str) -> dict[str, Any]:
    return resolved(copy.deepcopy(unresolved(*overrides)))


@lru_cache(512)
def unresolved(*overrides: str) -> DictConfig:
    """The same with its interpolations: copy it before you change it."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("train", overrides=list(overrides))


def small(folder: Path, *overrides: str) -> dict[str, Any]:
    """The configuration of a small run on a text of 6 kB, which is kept in a folder, or on what the overrides say."""
    text = folder / "text.txt"
    if not text.exists():
        text.write_text(words(1200))
    of_no_folder = "of_no_folder"  # the folders of tests differ, and what Hydra composes is the same
    config = composed(*SMALL, f"dataset.files={of_no_folder}", f"dataset.cache_dir={of_no_folder}", *overrides)
    for key, path in {"files": text, "cache_dir": folder / "cache"}.items():
        if config["dataset"].get(key) == of_no_folder:
            config["dataset"][key] = str(path)
    return config


def opened(config: Mapping[str, Any]) -> tuple[Any, Any]:
    """Return the data of a configuration, prepared and connected to its task, and that task."""
    recipe = Recipe.of(config)
    data = recipe.data()
    data.prepare_data()
    data.setup()
    task = recipe.task.of(data)
    data.connect(task, None)
    return data, task


def words(count: int, seed: int = 0) -> str:
    """That many words, the same for the same seed."""
    return " ".join(random.Random(seed).choices(WORDS.split(), k=count))


def run_of(config: dict[str, Any], directory: Path, checkpoint: Path | None = None) -> RunDirectory:
    """Checks and trains a run, as `python -m src.train` does, or goes on with it."""
    return train(Plan(RunDirectory(directory), config, checkpoint), check(config, checkpoint))


class StopAfter(StopOnSignals):
    """Asks a run to stop, as a signal does, once it has made a step."""

    def __init__(self, step: int) -> None:
        super().__init__()
        self.step = step

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any) -> None:
        if trainer.global_step == self.step:
            pl_module.stop_requested = True


def stop_run(config: dict[str, Any], directory: Path, step: int, checkpoint: Path | None = None) -> RunDirectory:
    """A run that is asked to stop after a step, and does so after the next."""
    run = RunDirectory(directory)
    run.start(config, {})
    with pytest.raises(RunInterruptedError):
        train_here(run, check(config, checkpoint), checkpoint, StopAfter(step))
    return run


def assert_resumes(config: dict[str, Any], folder: Path, step: int = 2) -> tuple[RunDirectory, RunDirectory]:
    """Stop a run after a step and resume it: it has the weights of one left alone, bit for bit. Return that, and it."""
    whole = run_of(config, folder / "whole")
    stopped = stop_run(config, folder / "stopped", step)
    assert load_checkpoint(stopped.last_checkpoint)["global_step"] == step + 1
    resumed = run_of(config, stopped.path, stopped.last_checkpoint)
    assert_same_weights(resumed, whole)
    return whole, resumed


def assert_same_weights(run: RunDirectory, other: RunDirectory) -> None:
    """The last checkpoints of two runs hold the same weights, bit for bit."""
    ours, theirs = weights(run.last_checkpoint), weights(other.last_checkpoint)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=0)


def weights(checkpoint: Path) -> dict[str, Tensor]:
    """The model's weights in a checkpoint file."""
    state: dict[str, Tensor] = load_checkpoint(checkpoint)["state_dict"]
    return {name.removeprefix("model."): weight for name, weight in state.items() if name.startswith("model.")}


def recorded(run: RunDirectory) -> list[tuple[int, str, float]]:
    """The lines of metrics.csv, as (step, tag, value)."""
    with (run.path / "metrics.csv").open(newline="") as file:
        return [(int(row["step"]), row["tag"], float(row["value"])) for row in csv.DictReader(file)]

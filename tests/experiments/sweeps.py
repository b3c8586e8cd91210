"""Sweeps of a very small model, for tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from poslab.experiments.jobs import Job, Jobs
from poslab.experiments.search import SweepJobs, make_or_join
from poslab.experiments.sweep import Sweep
from tests.training.runs import CONF, SMALL, composed, words

__all__ = ["CONF", "joined", "small_sweep", "taken"]

VALIDATION = {"mean": ["validation/bits_per_byte@1x", "validation/bits_per_byte@2x"], "direction": "minimize"}


def small_sweep(folder: Path, *overrides: str, **given: Any) -> Sweep:
    """A sweep over the base and fraction of rotary, of runs of 4 steps on 6 kB of text."""
    torch.manual_seed(0)
    text = folder / "text.txt"
    if not text.exists():
        text.write_text(words(1200))
    arguments: dict[str, Any] = {
        "name": folder.name,
        "question": "Does it work?",
        "train": {"encoding": "rotary"},
        "space": {"encoding.base": {"float": [100, 100000], "log": True}, "encoding.fraction": {"choices": [0.5, 1.0]}},
        "objectives": [VALIDATION],
        "n_trials": 4,
        "sampler": {"_target_": "optuna.samplers.RandomSampler"},
        "pruner": None,
        "output": str(folder / "sweep"),
        "trust": ["tests"],  # for pruners of tests
        **given,
    }
    own = [*SMALL, f"dataset.files={text}", f"dataset.cache_dir={folder / 'cache'}", *overrides]
    return Sweep(**{**arguments, "overrides": own})


def taken(jobs: Jobs[Any], worker: str = "worker") -> Job:
    """A job of those that have one to give."""
    job = jobs.take(worker)
    assert job is not None
    return job


def joined(sweep: Sweep, default: dict[str, Any] | None = None) -> SweepJobs:
    """The trials of a sweep, whose study is made or joined as the command does."""
    Path(sweep.output).mkdir(exist_ok=True, parents=True)
    parameters = {"encoding.base": 10000.0, "encoding.fraction": 1.0} if default is None else default
    return make_or_join(sweep, parameters, composed())

"""The cost of Lightning's loop: a step of our decoder in a Trainer, in a plain loop, and one of x-transformers."""

from __future__ import annotations

import logging
import statistics
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import lightning as L
import ours
from lightning.fabric.utilities.warnings import PossibleUserWarning
from peers import X_TRANSFORMERS, peers_of
from plain_loop import LEARNING_RATE, PlainLoop, random_batch
from results import Results, Row
from size import Size
from torch.utils.data import DataLoader
from turns import now, ratio

from poslab.data.batch import TokenBatch
from poslab.runs.optimizers import AdamW
from poslab.runs.steps import MeanGradients, TaskLoss
from poslab.tasks.language_modelling import LanguageModelling
from poslab.training.learner import Learner

PART = "trainer"
ENCODING = "rotary"
OURS, OURS_IN_TRAINER = "Poslab", "Poslab, Trainer"
CONTESTANTS = (OURS, OURS_IN_TRAINER, X_TRANSFORMERS)
WARM_UP = 2


@dataclass
class TakeTurns(L.Callback):
    """Between any two steps of a Trainer, one step of each plain loop.

    Attributes:
        seconds: of the steps of each, by name.
    """

    loops: Mapping[str, PlainLoop]
    seconds: dict[str, list[float]] = field(default_factory=dict)
    _began: float = 0.0

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._began = now()

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: TokenBatch, batch_idx: int
    ) -> None:
        self.seconds.setdefault(OURS_IN_TRAINER, []).append(now() - self._began)
        for name in sorted(self.loops, reverse=batch_idx % 2 == 1):
            began = now()
            self.loops[name].step(batch)
            self.seconds.setdefault(name, []).append(now() - began)
        self._began = now()


def measure(results: Results, precisions: list[str], size: Size, steps: int) -> None:
    """Add the rows of the precisions: seconds of a step, and those of x-transformers over it (`speed`).

    Args:
        results: where they go.
        precisions: of `plain_loop.PRECISIONS`.
        size: of models and batches.
        steps: how many of each are measured, after some to warm up.
    """
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", category=PossibleUserWarning)
    warnings.filterwarnings("ignore", message=r"`isinstance\(treespec, LeafSpec\)` is deprecated")
    for precision in precisions:
        shape: Row = {"part": PART, "precision": precision, "encoding": ENCODING}
        shape |= {"length": size.sequence_length, "batch": size.batch_size}
        if not results.missing({**shape, "contestant": OURS}):
            continue
        batch = random_batch(size)
        theirs = next(peer for peer in peers_of(ENCODING) if peer.name == X_TRANSFORMERS)
        models = {OURS: ours.decoder(ENCODING, size), X_TRANSFORMERS: theirs.decoder(size)}
        turns = TakeTurns({name: PlainLoop(model, precision) for name, model in models.items()})
        learner = Learner(
            ours.decoder(ENCODING, size),
            LanguageModelling({"train": 1.0}),
            TaskLoss(),
            AdamW(lr=LEARNING_RATE),
            MeanGradients(size.batch_size),
            batch_size=size.batch_size,
            lengths={"validation": [size.sequence_length]},
            longest_trained=size.sequence_length,
            seed=0,
            log_every=10,
        )
        trainer = L.Trainer(
            accelerator="auto",
            devices=1,
            precision=precision,  # type: ignore[arg-type]
            max_steps=WARM_UP + steps,
            limit_val_batches=0,
            callbacks=[turns],
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(learner, DataLoader([batch] * (WARM_UP + steps), batch_size=None))  # type: ignore[arg-type]
        seconds = {name: measured[WARM_UP:] for name, measured in turns.seconds.items()}
        for name in CONTESTANTS:
            row = {**shape, "contestant": name, "seconds": round(statistics.median(seconds[name]), 5), "turns": steps}
            row["parameters"] = turns.loops[X_TRANSFORMERS if name == X_TRANSFORMERS else OURS].num_parameters
            row["speed"] = ratio(seconds[X_TRANSFORMERS], seconds[name])
            results.add(row)

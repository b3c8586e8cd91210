"""Windows of a token file as batches, gathered in one indexing operation each, and their loaders.

Dimensions: B windows, T tokens of a window, U = T + 1 (its inputs and the target of the last).
"""

import signal
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from poslab.data.batch import IGNORE, TokenBatch, make_batch
from poslab.data.cache import TokenFile
from poslab.data.order import BatchPlan, EvaluationSampler, TrainingSampler, WindowOrder


class TrainingWindows(Dataset[TokenBatch]):
    """Windows anywhere in a token file, named by their first token."""

    def __init__(self, tokens: TokenFile, length: int, boundary: int | None) -> None:
        self.tokens = tokens
        self.length = length
        self.boundary = boundary

    def __len__(self) -> int:
        return len(self.tokens) - self.length

    def __getitems__(self, starts: list[int]) -> TokenBatch:
        index_BU = np.asarray(starts)[:, None] + np.arange(self.length + 1)
        return make_batch(self.tokens.ids[index_BU], self.boundary)


class EvaluationWindows(Dataset[TokenBatch]):
    """The non-overlapping windows of a token file, by number. Together they predict each token but the first once.

    The last window is filled up with targets to be ignored; so is every window past it, completely.
    """

    def __init__(self, tokens: TokenFile, length: int, boundary: int | None) -> None:
        self.tokens = tokens
        self.length = length
        self.boundary = boundary

    def __len__(self) -> int:
        return -(-(len(self.tokens) - 1) // self.length)

    def __getitems__(self, numbers: list[int]) -> TokenBatch:
        index_BU = self.length * np.asarray(numbers)[:, None] + np.arange(self.length + 1)
        last = len(self.tokens) - 1
        batch = make_batch(self.tokens.ids[np.minimum(index_BU, last)], self.boundary)
        missing_BT = torch.from_numpy(index_BU[:, 1:] > last)
        return batch._replace(targets=batch.targets.masked_fill(missing_BT, IGNORE))


class RunLoader(DataLoader[TokenBatch]):
    """A loader whose place in the run is known from the trainer's step, so its own state is empty.

    Lightning warns of a loader without state when a run is resumed in the middle, which is meant for loaders that
    would begin again.
    """

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        pass


def training_loader(
    tokens: TokenFile, boundary: int | None, plan: BatchPlan, order: WindowOrder, num_workers: int
) -> RunLoader:
    """Batches of a whole run over a token file, from the first step of the plan on."""
    return RunLoader(
        TrainingWindows(tokens, order.length, boundary),
        batch_sampler=TrainingSampler(plan, order),
        collate_fn=_as_it_is,
        num_workers=num_workers,
        worker_init_fn=_leave_signals_to_the_run,
        pin_memory=torch.cuda.is_available(),
    )


def evaluation_loader(
    tokens: TokenFile, length: int, boundary: int | None, rows: int, world_size: int, rank: int, num_workers: int
) -> DataLoader[TokenBatch]:
    """Batches that predict every token of a file once over all processes, in windows of one length."""
    windows = EvaluationWindows(tokens, length, boundary)
    return DataLoader(
        windows,
        batch_sampler=EvaluationSampler(len(windows), rows, world_size, rank),
        collate_fn=_as_it_is,
        num_workers=num_workers,
        worker_init_fn=_leave_signals_to_the_run,
        pin_memory=torch.cuda.is_available(),
    )


def _leave_signals_to_the_run(worker: int) -> None:
    """In a loading process: SIGTERM and Ctrl-C reach all processes of a group, and only the run knows what to save."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)


def _as_it_is(batch: Any) -> Any:
    """`__getitems__` has made the whole batch already."""
    return batch

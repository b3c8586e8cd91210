"""Loaders of batches that a data set makes whole, in the order of a run."""

import signal
from typing import Any, Protocol

import torch
from torch.utils.data import DataLoader

from poslab.data.order import BatchPlan, EvaluationSampler, Order, TrainingSampler


class Batches(Protocol):
    """What makes a batch of the items of these numbers, in one go."""

    def __getitems__(self, numbers: list[int]) -> Any: ...


class RunLoader(DataLoader[Any]):
    """A loader whose place in the run is known from the trainer's step, so its own state is empty.

    Lightning warns of a loader without state when a run is resumed in the middle, which is meant for loaders that
    would begin again.
    """

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        pass


def training_loader(batches: Batches, plan: BatchPlan, order: Order, num_workers: int) -> RunLoader:
    """Batches of a whole run, from the first step of the plan on."""
    return RunLoader(
        batches,  # type: ignore[arg-type]
        batch_sampler=TrainingSampler(plan, order),
        collate_fn=_as_it_is,
        num_workers=num_workers,
        worker_init_fn=_leave_signals_to_the_run,
        pin_memory=torch.cuda.is_available(),
    )


def evaluation_loader(
    batches: Batches, count: int, rows: int, world_size: int, rank: int, num_workers: int
) -> DataLoader[Any]:
    """Batches of all items, each once over all processes.

    Args:
        batches: makes them; of numbers from `count` on, which fill up the last ones, it makes rows that do not count.
        count: how many items there are.
        rows: of a batch in one process.
        world_size, rank: number of processes, and of this one.
        num_workers: processes that load; 0 is this one.
    """
    return DataLoader(
        batches,  # type: ignore[arg-type]
        batch_sampler=EvaluationSampler(count, rows, world_size, rank),
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

"""Loaders of batches, each of which a data set makes in one go, in the order of a run."""

import signal
from typing import Any, Protocol

import numpy as np
import torch
from torch.utils.data import DataLoader

from poslab.data.order import BatchPlan, ExampleOrder, IndependentOrder, Items, TrainingSampler
from poslab.data.source import PreparedSource


class Batches(Protocol):
    """A data set that makes a batch of the items of these numbers in one go."""

    def __getitems__(self, numbers: list[int]) -> Any: ...


class RunLoader(DataLoader[Any]):
    """A loader whose place in the run follows from the trainer's step, so that its state is empty.

    Without a state, Lightning would warn that a resumed run begins its data again.
    """

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        pass


def training_loader(batches: Batches, plan: BatchPlan, items: Items, num_workers: int) -> RunLoader:
    """Return the batches of a whole run, from the first step of the plan on."""
    return RunLoader(batches, batch_sampler=TrainingSampler(plan, items), **_settings(num_workers))  # type: ignore[arg-type]


def example_loader(
    batches: Batches, num_tokens: np.ndarray, plan: BatchPlan, source: PreparedSource, draws_independently: bool
) -> RunLoader:
    """Return the batches of a whole run over examples of these numbers of tokens, (N,).

    They are those of `IndependentOrder` if `draws_independently`, else of `ExampleOrder`, by the settings of a source.
    """
    order: IndependentOrder | ExampleOrder
    if draws_independently:
        order = IndependentOrder(len(num_tokens), source.batch_size, source.seed)
    else:
        repeat = source.batch_size if source.overfit else None
        order = ExampleOrder(num_tokens, source.batch_size, source.seed, repeat)
    return training_loader(batches, plan, order.items, source.num_workers)


def evaluation_loader(batches: Batches, numbers: list[range], num_workers: int) -> DataLoader[Any]:
    """Return batches of these numbers; `batches` makes rows that do not count of the numbers beyond its items."""
    return DataLoader(batches, batch_sampler=numbers, **_settings(num_workers))  # type: ignore[arg-type]


def _settings(num_workers: int) -> dict[str, Any]:
    return {
        "collate_fn": _identity,
        "num_workers": num_workers,
        "worker_init_fn": _ignore_signals,
        "pin_memory": torch.cuda.is_available(),
    }


def _ignore_signals(worker: int) -> None:
    """Ignore SIGTERM and Ctrl-C in a loading process: they reach the whole group, and only the run can save."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)


def _identity(batch: Any) -> Any:
    """Return a batch, which `__getitems__` has made already."""
    return batch

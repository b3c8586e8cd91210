"""The windows or examples of each batch as pure functions of seed and step, so that nothing has to be stored.

The whole run is one endless stream of windows. Step k takes items [k * B, (k + 1) * B) of it, B being the global batch
size, whatever the number of devices and micro-batches; a run that is resumed at step k continues at item k * B.
"""

import signal
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Sampler

if TYPE_CHECKING:
    from lightning.pytorch import Trainer

Items = Callable[[range], list[int]]  # returns the number of the item at each of these indices of an endless stream


class PassOrder(ABC):
    """An endless stream of passes over the same items.

    With `repeat` it is instead as many first items, over and over.
    """

    def __init__(self, items_per_pass: int, seed: int, repeat: int | None = None) -> None:
        self.items_per_pass = items_per_pass
        self.seed = seed
        self.repeat = repeat
        self._items_of_pass = lru_cache(maxsize=2)(self._make_pass)

    def items(self, indices: range) -> list[int]:
        within = indices if self.repeat is None else (index % self.repeat for index in indices)
        located = (divmod(index, self.items_per_pass) for index in within)
        return [int(self._items_of_pass(number)[index]) for number, index in located]

    @abstractmethod
    def _make_pass(self, number: int) -> np.ndarray: ...


class WindowOrder(PassOrder):
    """The endless stream over an array of N tokens; a window of T tokens and one more is numbered by its first token.

    Each pass takes the non-overlapping windows that begin at a random offset below the window length, in random order,
    so no two passes cut the text alike.
    """

    def __init__(self, num_tokens: int, length: int, seed: int, repeat: int | None = None) -> None:
        self.length = length
        # Short by one window where needed, so that every offset gives the same number.
        super().__init__(max(1, (num_tokens - length) // length), seed, repeat)
        self._num_offsets = min(length, num_tokens - self.items_per_pass * length)

    def _make_pass(self, number: int) -> np.ndarray:
        generator = np.random.default_rng([self.seed, number])
        offset = generator.integers(self._num_offsets)
        return offset + self.length * generator.permutation(self.items_per_pass)


class ExampleOrder(PassOrder):
    """The endless stream over examples of these lengths, (N,), in batches of about the same, with little padding.

    Each pass takes every example once, in random order: batches are cut in the order of length from as many examples as
    make 50 batches, and come in random order again.
    """

    def __init__(self, lengths: np.ndarray, batch_size: int, seed: int, repeat: int | None = None) -> None:
        super().__init__(len(lengths), seed, repeat)
        self.lengths = lengths
        self.batch_size = batch_size

    def _make_pass(self, number: int) -> np.ndarray:
        generator = np.random.default_rng([self.seed, number])
        shuffled = generator.permutation(len(self.lengths))
        # The first batch ends where a batch of the run does, wherever this pass begins.
        begun = number * len(self.lengths) % self.batch_size
        first, rest = np.split(shuffled, [(self.batch_size - begun) % self.batch_size])
        pools = np.split(rest, range(50 * self.batch_size, len(rest), 50 * self.batch_size))
        return np.concatenate([first, *(self._batched(pool, generator) for pool in pools)])

    def _batched(self, pool: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        ordered = pool[np.argsort(self.lengths[pool], kind="stable")]
        left_over = len(ordered) % self.batch_size
        whole, last = np.split(ordered, [len(ordered) - left_over])
        batches = whole.reshape(-1, self.batch_size)
        return np.concatenate([batches[generator.permutation(len(batches))].ravel(), last])


@dataclass(eq=False)
class IndependentOrder:
    """Batches in which each of the same rows is with probability batch_size / num_rows, whatever the others are.

    A batch has `batch_size` rows on average. One that would have none has number `num_rows`, a row that does not count.
    The draws of a step follow from the seed and the step.
    """

    num_rows: int
    batch_size: int
    seed: int

    def items(self, indices: range) -> list[int]:
        """Return the rows of a micro-batch, of which the steps of a `BatchPlan` have `batch_size / len(indices)`."""
        step, first = divmod(indices.start, self.batch_size)
        draws = np.random.default_rng([self.seed, step]).random(self.num_rows)
        drawn = np.flatnonzero(draws < self.batch_size / self.num_rows)
        of_part = drawn[first // len(indices) :: self.batch_size // len(indices)]
        return [int(row) for row in of_part] or [self.num_rows]

    def draws(self, indices: range) -> list[int]:
        """Return the rows of a micro-batch, each plus (N + 1) times its step, for random choices in a row."""
        step = indices.start // self.batch_size
        return [row + (self.num_rows + 1) * step for row in self.items(indices)]


@dataclass(frozen=True)
class BatchPlan:
    """The indices of the stream for this process, micro-batch by micro-batch."""

    batch_size: int  # windows of one optimizer step over all devices and micro-batches, B, divisible by D * A
    world_size: int = 1  # processes D
    rank: int = 0
    accumulate: int = 1  # micro-batches of a step in each process, A
    first_step: int = 0  # step at which a resumed run begins
    last_step: int = 0  # number of steps of the whole run
    # draws_independently, num_earlier: as of `RunData`
    draws_independently: bool = False
    num_earlier: int = 0

    def __post_init__(self) -> None:
        if self.batch_size % (self.world_size * self.accumulate):
            raise ValueError(
                f"batch_size must be divisible by {self.world_size} devices x {self.accumulate} micro-batches,"
                f" got {self.batch_size}"
            )

    @classmethod
    def of(cls, trainer: "Trainer", batch_size: int, processes_per_window: int = 1) -> "BatchPlan":
        """Return the plan of a trainer in its present state; one that resumes has read its checkpoint.

        Processes that share each window, which have successive numbers, have the same plan.
        """
        if trainer.max_steps < 0:
            raise ValueError("trainer.max_steps must be set: a run is a number of steps, not of epochs")
        return cls(
            batch_size=batch_size,
            world_size=trainer.world_size // processes_per_window,
            rank=trainer.global_rank // processes_per_window,
            accumulate=trainer.accumulate_grad_batches,
            first_step=trainer.global_step,
            last_step=trainer.max_steps,
        )

    def __len__(self) -> int:
        """Micro-batches of the whole run, including any before `first_step`: Lightning counts them too."""
        return self.last_step * self.accumulate

    @property
    def rows(self) -> int:
        """Windows of one micro-batch in one process."""
        return self.batch_size // (self.world_size * self.accumulate)

    def __iter__(self) -> Iterator[range]:
        for step in range(self.first_step, self.last_step):
            for micro_batch in range(self.accumulate):
                first = step * self.batch_size + (self.rank * self.accumulate + micro_batch) * self.rows
                yield range(first, first + self.rows)


@dataclass(eq=False)
class TrainingSampler(Sampler[list[int]]):
    """The items of each micro-batch, in the order of the run."""

    plan: BatchPlan
    items: Items

    def __len__(self) -> int:
        return len(self.plan)

    def __iter__(self) -> Iterator[list[int]]:
        return map(self.items, self.plan)


def evaluation_batches(count: int, rows: int, world_size: int, rank: int) -> list[range]:
    """Return the numbers of all items, each once over all processes; these get the same number of full batches.

    Numbers of `count` and above fill up the last batches, whose rows have nothing to predict. A batch has so many rows
    in one process.
    """
    together = rows * world_size
    firsts = range(rank * rows, together * -(-count // together), together)
    return [range(first, first + rows) for first in firsts]


class RunLoader(DataLoader[Any]):
    """A loader whose position in the run follows from the trainer's step, so that its state is empty.

    Without a state, Lightning would warn that a resumed run begins its data again.
    """

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        pass


def training_loader(batches: Any, plan: BatchPlan, items: Items, num_workers: int) -> RunLoader:
    """Return the batches of a whole run, which `batches` makes of the items of some numbers in one go."""
    return RunLoader(batches, batch_sampler=TrainingSampler(plan, items), **_settings(num_workers))


def evaluation_loader(batches: Any, numbers: list[range], num_workers: int) -> DataLoader[Any]:
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

"""The windows or examples of each batch as pure functions of seed and step, so that nothing has to be stored.

The whole run is one endless stream of windows. Step k takes places [k * B, (k + 1) * B) of it, B being the global batch
size, whatever the number of devices and micro-batches; a run that is resumed at step k continues at place k * B.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from torch.utils.data import Sampler

if TYPE_CHECKING:
    from lightning.pytorch import Trainer

Items = Callable[[range], list[int]]
"""Returns the number of the item at each of these places of an endless stream."""


class PassOrder(ABC):
    """An endless stream of passes over the same items.

    Args:
        items_per_pass: number of items.
        seed: of the passes.
        repeat: number of first items to repeat over and over instead; None (default) makes new passes.
    """

    def __init__(self, items_per_pass: int, seed: int, repeat: int | None = None) -> None:
        self.items_per_pass = items_per_pass
        self.seed = seed
        self.repeat = repeat
        self._items_of_pass = lru_cache(maxsize=2)(self._make_pass)

    def items(self, places: range) -> list[int]:
        within = places if self.repeat is None else (place % self.repeat for place in places)
        located = (divmod(place, self.items_per_pass) for place in within)
        return [int(self._items_of_pass(number)[place]) for number, place in located]

    @abstractmethod
    def _make_pass(self, number: int) -> np.ndarray: ...


class WindowOrder(PassOrder):
    """The endless stream over one array of tokens; a window is numbered by its first token.

    Each pass takes the non-overlapping windows that begin at a random offset below the window length, in random
    order, so no two passes cut the text alike.

    Args:
        num_tokens: tokens N in the array, at least `length` + 1.
        length: tokens T that a window predicts; it needs T + 1.
        seed, repeat: as of `PassOrder`.
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
    """The endless stream over examples, those of a batch of about the same length, so that little of it is padding.

    Each pass takes every example once, in random order: batches are cut in the order of length from as many examples
    as make 50 batches, and come in random order again.

    Args:
        lengths: (N,) tokens of each example.
        batch_size: examples of a global batch.
        seed, repeat: as of `PassOrder`.
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


class IndependentOrder:
    """Batches in which each of the same rows is with probability batch_size / num_rows, whatever the others are.

    A batch has `batch_size` rows on average. One that would have none has number `num_rows`, a row that does not count.

    Args:
        num_rows: rows N, numbered from 0.
        batch_size: expected rows of a global batch.
        seed: of the draws; those of a step follow from it and the step.
    """

    def __init__(self, num_rows: int, batch_size: int, seed: int) -> None:
        self.num_rows = num_rows
        self.batch_size = batch_size
        self.seed = seed

    def items(self, places: range) -> list[int]:
        """Return the rows of a micro-batch, of which the steps of a `BatchPlan` have `batch_size / len(places)`."""
        step, first = divmod(places.start, self.batch_size)
        draws = np.random.default_rng([self.seed, step]).random(self.num_rows)
        drawn = np.flatnonzero(draws < self.batch_size / self.num_rows)
        of_part = drawn[first // len(places) :: self.batch_size // len(places)]
        return [int(row) for row in of_part] or [self.num_rows]

    def draws(self, places: range) -> list[int]:
        """Return the rows of a micro-batch, each plus (N + 1) times its step, for random choices in a row."""
        step = places.start // self.batch_size
        return [row + (self.num_rows + 1) * step for row in self.items(places)]


@dataclass(frozen=True)
class BatchPlan:
    """The places of the stream for this process, micro-batch by micro-batch.

    Args:
        batch_size: windows of one optimizer step over all devices and micro-batches, B.
        world_size: processes D.
        rank: number of this process.
        accumulate: micro-batches of a step in each process, A.
        first_step: step at which a resumed run begins.
        last_step: number of steps of the whole run.

    Raises:
        ValueError: B is not divisible by D * A.
    """

    batch_size: int
    world_size: int = 1
    rank: int = 0
    accumulate: int = 1
    first_step: int = 0
    last_step: int = 0

    def __post_init__(self) -> None:
        if self.batch_size % (self.world_size * self.accumulate):
            raise ValueError(
                f"batch_size must be divisible by {self.world_size} devices x {self.accumulate} micro-batches,"
                f" got {self.batch_size}"
            )

    @classmethod
    def of(cls, trainer: "Trainer", batch_size: int, processes_per_window: int = 1) -> "BatchPlan":
        """Return the plan of a trainer in its present state; one that resumes has read its checkpoint.

        Processes that share each window, those of successive numbers, have the same plan.
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
        """Micro-batches of the whole run, those before `first_step` included: Lightning counts them too."""
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


class TrainingSampler(Sampler[list[int]]):
    """The items of each micro-batch, in the order of the run."""

    def __init__(self, plan: BatchPlan, items: Items) -> None:
        self.plan = plan
        self.items = items

    def __len__(self) -> int:
        return len(self.plan)

    def __iter__(self) -> Iterator[list[int]]:
        return map(self.items, self.plan)


def evaluation_batches(count: int, rows: int, world_size: int, rank: int) -> list[range]:
    """Return the numbers of all items, each once over all processes; these get the same number of full batches.

    Numbers of `count` and above fill up the last batches, whose rows have nothing to predict.

    Args:
        count: items of the split.
        rows: items of one batch in one process.
        world_size, rank: number of processes, and of this one.
    """
    together = rows * world_size
    firsts = range(rank * rows, together * -(-count // together), together)
    return [range(first, first + rows) for first in firsts]

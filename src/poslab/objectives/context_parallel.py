"""Context parallelism: the loss of the tokens that one process has of each window.

Dimension letters: B batch, T tokens of a window.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import distributed
from torch.distributed import ProcessGroup

from poslab.attention.gathered import GatheredLayer
from poslab.data.batch import TokenBatch
from poslab.encodings import Positions
from poslab.models import Decoder, Model
from poslab.objectives.objective import Objective, ObjectiveSums, Teacher
from poslab.tasks.task import Task


@dataclass(frozen=True)
class ContextParallel(Objective):
    """The loss of next tokens where several processes share each window, in parts of equal length.

    A process computes its own tokens alone, each layer with the keys and values of the tokens before them, which the
    processes gather. So its tokens have the logits, and all processes together the gradient, of the whole window.

    The draws of an encoding (the offset of Abacus) are the same in all parts of a window; each has its own dropout.

    Args:
        processes_per_window: number of processes that share a window, those of successive numbers.
    """

    processes_per_window: int

    @cached_property
    def group(self) -> ProcessGroup:
        """The processes that share the windows of this one; all processes of the run must ask for theirs at once."""
        own, _ = distributed.new_subgroups(self.processes_per_window)
        return own

    def sums(self, task: Task, model: Model, batch: TokenBatch, teacher: Teacher | None) -> ObjectiveSums:
        assert isinstance(model, Decoder), "checked before training"
        length = batch.tokens.shape[1] // self.processes_per_window
        rank = distributed.get_rank(self.group)
        first = rank * length
        own = slice(first, first + length)
        if batch.segments is None:
            positions = Positions.range(batch.tokens.shape[1], device=batch.tokens.device)
        else:
            positions = Positions.packed(batch.segments)
        earlier = model.new_cache()
        earlier.layers = [GatheredLayer(self.group) for _ in earlier.layers]
        if first:
            earlier.append_positions(positions.part(slice(0, first)), None)
            earlier.append_tokens(batch.tokens[:, :first])
        # The first dropout comes after all that encodings draw.
        at_first_dropout = model.dropout.register_forward_pre_hook(lambda *_: _begin_own_draws(rank))
        logits_BTV = model(batch.tokens[:, own], positions.part(own), None, earlier)
        at_first_dropout.remove()
        sums = task.sums(logits_BTV, TokenBatch(batch.tokens[:, own], batch.targets[:, own]))
        return ObjectiveSums(sums.loss, sums)


def _begin_own_draws(rank: int) -> None:
    """Seed the random numbers of a process anew, by the last seed and its number among those that share a window."""
    entropy = (torch.initial_seed(), rank)
    torch.manual_seed(int(np.random.SeedSequence(entropy).generate_state(1)[0]))

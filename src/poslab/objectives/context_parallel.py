"""Context parallelism: the loss of the tokens that one process has of each window.

Dimension letters: B batch, T tokens of a window.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from torch import distributed
from torch.distributed import ProcessGroup

from poslab.attention.gathered import GatheredLayer
from poslab.data.batch import TokenBatch
from poslab.encodings import Positions
from poslab.models import Model
from poslab.objectives.objective import Objective, ObjectiveSums, Teacher
from poslab.tasks.task import Task


@dataclass(frozen=True)
class ContextParallel(Objective):
    """The loss of next tokens where several processes share each window, in parts of equal length.

    A process computes its own tokens alone, each layer with the keys and values of the tokens before them, which the
    processes gather. So its tokens have the logits, and all processes together the gradient, of the whole window.

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
        length = batch.tokens.shape[1] // self.processes_per_window
        first = distributed.get_rank(self.group) * length
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
        logits_BTV = model(batch.tokens[:, own], positions.part(own), None, earlier)
        sums = task.sums(logits_BTV, TokenBatch(batch.tokens[:, own], batch.targets[:, own]))
        return ObjectiveSums(sums.loss, sums)

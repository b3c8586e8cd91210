"""Keys and values that several processes gather, each of which has a part of every text.

Dimension letters: B batch, G key-value heads, T tokens of a part, S tokens up to the end of a part, D head dim.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, distributed
from torch.distributed import ProcessGroup

from poslab.attention.cache import LayerCache


class GatheredLayer(LayerCache):
    """A layer's keys and values of the text up to the end of this process's part, in place of a cache.

    The parts are of equal length, and follow one another as the processes do. Gradients flow to the process whose part
    it is.

    Args:
        group: the processes that share a text.

    Source: Grattafiori et al., "The Llama 3 Herd of Models" (2024), section 3.3.2, context parallelism by all-gather.
    """

    def __init__(self, group: ProcessGroup) -> None:
        super().__init__()
        self.group = group

    def append(self, *new: Tensor) -> list[Tensor]:
        """Return keys (B, G, S, D) and values up to the end of these (B, G, T, D)."""
        last = distributed.get_rank(self.group)
        return [torch.cat(_Gather.apply(x, self.group)[: last + 1], dim=2) for x in new]


class _Gather(torch.autograd.Function):
    """The tensors of all processes of a group, in order; backward, each gets the sum of the gradients of its own."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, group: ProcessGroup) -> tuple[Tensor, ...]:
        ctx.group = group
        parts = [torch.empty_like(x, memory_format=torch.contiguous_format) for _ in range(group.size())]
        distributed.all_gather(parts, x.contiguous(), group=group)
        return tuple(parts)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        gradient = torch.empty_like(gradients[0], memory_format=torch.contiguous_format)
        distributed.reduce_scatter(gradient, [x.contiguous() for x in gradients], group=ctx.group)
        return gradient, None

"""Cache of the tokens that a decoder has read, and their gathering by processes that share a text.

Dimension letters: B batch, H heads, G key-value heads, T new tokens, P past tokens, S all tokens, R selected rows,
D head dim, E numbers of a token's state.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, distributed
from torch.distributed import ProcessGroup

from poslab.encodings.positions import Positions


class LayerCache:
    """Keys, values and, if the encoding has one, state of the tokens of one layer."""

    def __init__(self) -> None:
        self.recurrent: dict[str, Tensor] = {}
        """State of short convolutions and of mixers other than attention, (B, ...) each, by name."""
        self._buffers: list[Tensor] = []
        self._length = 0

    @property
    def state(self) -> Tensor | None:
        """State of the tokens so far, (B, H, P, E); None if there is none."""
        return self._buffers[2][:, :, : self._length] if len(self._buffers) > 2 else None

    def __len__(self) -> int:
        """Return the number of cached tokens."""
        return self._length

    def contents(self) -> list[Tensor]:
        """Return the keys, values and state, if any, of all tokens."""
        return [buffer[:, :, : self._length] for buffer in self._buffers]

    def select(self, rows_R: Tensor) -> None:
        """Keep these rows of the batch, each any number of times."""
        self._buffers = [buffer[rows_R] for buffer in self._buffers]
        self.recurrent = {name: state[rows_R] for name, state in self.recurrent.items()}

    def append(self, *new: Tensor) -> list[Tensor]:
        """Add keys (B, G, T, D), values and perhaps a state of new tokens; return them for all tokens."""
        start, stop = self._length, self._length + new[0].shape[2]
        buffers: list[Tensor | None] = [*self._buffers] or [None] * len(new)
        self._buffers = [_written(buffer, x, start) for buffer, x in zip(buffers, new, strict=True)]
        self._length = stop
        return self.contents()


class KeyValueCache:
    """Unrotated keys and values of every layer, with tokens and positions; for inference, without gradients.

    Keys are rotated when they are read, so that none was rotated by the angles of an earlier length.
    """

    def __init__(self, num_layers: int) -> None:
        self.positions: Positions | None = None
        """Positions of the P past tokens; None before the first."""
        self.real: Tensor | None = None
        """(B, P) bool, False at padding; None if there is none."""
        self.tokens: Tensor | None = None
        """(B, P) ids of the tokens; None if nothing reads them."""
        self.registers = 0
        """Registers of a model before the tokens; they are among the P past tokens."""
        self.layers = [LayerCache() for _ in range(num_layers)]
        self._may_end_with_padding = False

    def __len__(self) -> int:
        """Return the number of cached tokens."""
        return 0 if self.positions is None else self.positions.length

    def continuation(self, length: int) -> Positions:
        """Return the positions of the next tokens, each row from its own last one; registers have none.

        Raises:
            ValueError: if a row ends with padding, after which new tokens would not follow its last one.
        """
        assert self.positions is not None
        if self._may_end_with_padding and self.real is not None and not bool(self.real[:, -1].all()):
            raise ValueError("decoding continues after the last token of each row: pad prompts on the left")
        self._may_end_with_padding = False
        return self.positions.continuation(length).shifted(-self.registers)

    def select(self, rows_R: Tensor) -> None:
        """Keep these rows of the batch, each any number of times, as a beam search does."""
        for layer in self.layers:
            layer.select(rows_R)
        if self.positions is not None:
            self.positions = self.positions.select(rows_R)
        self.real = None if self.real is None else self.real[rows_R]
        self.tokens = None if self.tokens is None else self.tokens[rows_R]

    def append_positions(self, positions: Positions, real: Tensor | None) -> tuple[Positions, Tensor | None]:
        """Add the positions of new tokens and True where they are real; return both for all tokens."""
        given = self.real if real is None else real
        if given is not None:
            old = given.new_ones(len(given), len(self)) if self.real is None else self.real
            new = given.new_ones(len(given), positions.length) if real is None else real
            self.real = torch.cat([old, new], dim=1)
            self._may_end_with_padding = real is not None
        self.positions = positions if self.positions is None else self.positions.followed_by(positions)
        return self.positions, self.real

    def append_tokens(self, tokens_BT: Tensor) -> Tensor:
        """Add the ids of new tokens; return the ids of all tokens, (B, S)."""
        self.tokens = tokens_BT if self.tokens is None else torch.cat([self.tokens, tokens_BT], dim=1)
        return self.tokens


def next_positions(tokens_BT: Tensor, cache: KeyValueCache | None = None) -> Positions:
    """Return the positions of new tokens: 0, 1, ..., or the continuation of a cache with tokens.

    Raises:
        ValueError: as `KeyValueCache.continuation` does.
    """
    length = tokens_BT.shape[1]
    return cache.continuation(length) if cache else Positions.range(length, device=tokens_BT.device)


def _written(buffer: Tensor | None, new: Tensor, start: int) -> Tensor:
    """Write `new` at `start` into a buffer that doubles when it is full, so that n tokens cost n copies in total."""
    stop = start + new.shape[2]
    if buffer is None or stop > buffer.shape[2]:
        batch, heads, _, dim = new.shape
        larger = new.new_empty(batch, heads, max(64, 2 * stop), dim)
        if buffer is not None:
            larger[:, :, :start] = buffer[:, :, :start]
        buffer = larger
    buffer[:, :, start:stop] = new
    return buffer


class GatheredLayer(LayerCache):
    """A layer's keys and values of the text up to the end of this process's part, instead of a cache.

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
    """The tensors of all processes of a group, in order; backward, each gets the sum of the gradients of its tensor."""

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

"""What a decoder remembers of the tokens that it has read."""

from __future__ import annotations

import torch
from torch import Tensor

from poslab.encodings.positions import Positions


class KeyValueCache:
    """Keys and values of every layer, unrotated, with the positions of their tokens; for inference, without gradients.

    Keys are rotated when they are read: an encoding whose angles depend on the length so far then never meets keys
    that were turned by older angles.

    Args:
        num_layers: the number of layers.
    """

    def __init__(self, num_layers: int) -> None:
        self.positions: Positions | None = None
        self.real: Tensor | None = None
        self._keys: list[Tensor | None] = [None] * num_layers
        self._values: list[Tensor | None] = [None] * num_layers
        self._lengths = [0] * num_layers

    def __len__(self) -> int:
        """The number of tokens remembered."""
        return 0 if self.positions is None else self.positions.length

    def append_positions(self, positions: Positions, real: Tensor | None) -> tuple[Positions, Tensor | None]:
        """Adds the positions of new tokens, and which of them are real; gives those of all tokens."""
        before = len(self)
        if real is not None or self.real is not None:
            rows = real.shape[0] if real is not None else self.real.shape[0]  # type: ignore[union-attr]
            device = positions.ids.device
            old = self.real if self.real is not None else torch.ones(rows, before, dtype=torch.bool, device=device)
            new = real if real is not None else torch.ones(rows, positions.length, dtype=torch.bool, device=device)
            self.real = torch.cat([old, new], dim=1)
        self.positions = positions if self.positions is None else self.positions.followed_by(positions)
        return self.positions, self.real

    def append(self, layer: int, k_BGTD: Tensor, v_BGTD: Tensor) -> tuple[Tensor, Tensor]:
        """Adds keys and values of new tokens to a layer; gives those of all its tokens, (B, G, S, D)."""
        start, stop = self._lengths[layer], self._lengths[layer] + k_BGTD.shape[2]
        self._lengths[layer] = stop
        self._keys[layer] = keys = _written(self._keys[layer], k_BGTD, start)
        self._values[layer] = values = _written(self._values[layer], v_BGTD, start)
        return keys[:, :, :stop], values[:, :, :stop]


def _written(buffer: Tensor | None, new: Tensor, start: int) -> Tensor:
    """`new` written at `start` into a buffer that doubles when it is full, so that n tokens cost n copies in all."""
    stop = start + new.shape[2]
    if buffer is None or stop > buffer.shape[2]:
        batch, heads, _, dim = new.shape
        larger = new.new_empty(batch, heads, max(64, 2 * stop), dim)
        if buffer is not None:
            larger[:, :, :start] = buffer[:, :, :start]
        buffer = larger
    buffer[:, :, start:stop] = new
    return buffer

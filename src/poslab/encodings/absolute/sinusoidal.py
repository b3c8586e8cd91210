from __future__ import annotations

import torch
from torch import Tensor

from poslab.encodings.base import PositionalEncoding
from poslab.encodings.frequencies import angles, check_base, inverse_frequencies
from poslab.encodings.positions import Positions


class Sinusoidal(PositionalEncoding):
    """Fixed sines and cosines of the position, added to the token embeddings.

        PE(p, 2m)     = sin(p * base ** (-2m / M))
        PE(p, 2m + 1) = cos(p * base ** (-2m / M))
        x_p           = scale * embedding_p + PE(p)

    Sines and cosines alternate, as the paper writes them (Marian and RoFormer keep all sines before all cosines).

    Args:
        d_model: width M, even.
        base: the longest wavelength is nearly 2 pi base (paper: 10,000; above 1).
        scale: what token embeddings are multiplied by before the sum; None is sqrt(M), as in the paper (section 3.4).

    Source: Vaswani et al., "Attention Is All You Need" (NeurIPS 2017), section 3.5.
    """

    relative = False

    def __init__(self, d_model: int, base: float = 10_000.0, scale: float | None = None) -> None:
        super().__init__()
        check_base(base)
        if d_model % 2:
            raise ValueError(f"d_model must be even for sinusoidal positions, got {d_model}")
        if scale is not None and not scale > 0:
            raise ValueError(f"scale must be positive, got {scale}")
        self.d_model = d_model
        self.base = base
        self.embedding_scale = d_model**0.5 if scale is None else scale

    def embed(self, x_BTM: Tensor, positions: Positions, tokens_BT: Tensor | None = None) -> Tensor:
        angle = angles(positions.ids, inverse_frequencies(self.d_model, self.base, x_BTM.device))
        table = torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(-2)
        return x_BTM * self.embedding_scale + table.to(x_BTM.dtype)

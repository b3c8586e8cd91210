"""Sinusoidal absolute positions. Dimension letters: B batch, T tokens, M model dim."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from poslab.arguments import Count, Positive
from poslab.encodings.base import PositionalEncoding
from poslab.encodings.frequencies import Base, angle_dtype, angles, inverse_frequencies
from poslab.encodings.positions import Positions
from poslab.encodings.tokens import Tokens

SinusoidLayout = Literal["interleaved", "concatenated"]
"""Order of the channels: sines and cosines alternate, or all sines precede all cosines."""


class Sinusoidal(PositionalEncoding):
    """Fixed sines and cosines of the position, added to the token embeddings.

        PE(p, 2m)     = sin(p * base ** (-2m / M))
        PE(p, 2m + 1) = cos(p * base ** (-2m / M))
        x_p           = scale * embedding_p + PE(p)

    Use it when positions are added to the embeddings and nothing should be learned, as in the first Transformer. It
    does not extrapolate beyond the training length.

    Args:
        d_model: width M, even.
        base: the longest wavelength is nearly 2 pi base (paper: 10,000; above 1).
        scale: factor on the token embeddings before the sum; None is sqrt(M), as in the paper (section 3.4).
        layout: "interleaved" alternates sines and cosines, as the paper writes them; "concatenated" has all sines
            before all cosines, as Marian, RoFormer and XLNet. The two differ only in the order of channels: a model
            trained from scratch does not notice, pretrained weights need the order of their model.

    No parameters. Causal and bidirectional, for real positions too, with the precision of `Rotary` at far ones. Little
    is claimed beyond the training length: the paper hoped for it, later ones measured otherwise. Costs M numbers per
    token, once before the first layer.

    Slow to learn: a head must first find neighbours in sums of content and position. Embeddings that are not multiplied
    (`scale=1`) are far smaller than the sinusoids at first, and slower still.

    Trap: M2M-100 and tensor2tensor divide exponents by M / 2 - 1 where the paper, and this, has M / 2: their slowest
    wavelength is 2 pi base exactly, and every other one differs as well.

    Examples:
        >>> import torch
        >>> from poslab.encodings import Positions, Sinusoidal
        >>> sinusoidal, x_BTM = Sinusoidal(d_model=512), torch.randn(2, 128, 512)
        >>> sinusoidal.embed(x_BTM, Positions.range(128)).shape
        torch.Size([2, 128, 512])

    Source: Vaswani et al., "Attention Is All You Need" (NeurIPS 2017), section 3.5.
    """

    relative = False

    def __init__(
        self,
        d_model: Count,
        base: Base = 10_000.0,
        scale: Positive | None = None,
        layout: SinusoidLayout = "interleaved",
    ) -> None:
        super().__init__()
        if d_model % 2:
            raise ValueError(f"d_model must be even for sinusoidal positions, got {d_model}")
        self.d_model = d_model
        self.base = base
        self.embedding_scale = d_model**0.5 if scale is None else scale
        self._interleaved = layout == "interleaved"

    def embed(self, x_BTM: Tensor, positions: Positions, tokens: Tokens | None = None) -> Tensor:
        dtype = angle_dtype(positions.stop)
        table = self.waves(angles(positions.ids, inverse_frequencies(self.d_model, self.base, x_BTM.device, dtype)))
        return x_BTM * self.embedding_scale + table.to(x_BTM.dtype)

    def waves(self, angle: Tensor) -> Tensor:
        """Return the sines and cosines of angles (..., N), in the order of `layout`, (..., 2N)."""
        waves = [angle.sin(), angle.cos()]
        return torch.stack(waves, dim=-1).flatten(-2) if self._interleaved else torch.cat(waves, dim=-1)

"""Fourier positions: harmonics of one length. Dimension letters: B batch, T tokens, M model dim."""

from __future__ import annotations

import math
from typing import Annotated, Literal

import torch
from torch import Tensor

from poslab.arguments import NOT_HUGE, Count, Positive, Range
from poslab.encodings.base import PositionalEncoding
from poslab.encodings.positions import Positions
from poslab.encodings.tokens import Tokens

Components = Literal["sine", "cosine", "product"]
"""Function of the harmonic in a channel."""


class Fourier(PositionalEncoding):
    """Harmonics of a fixed length, one per channel, added to the token embeddings; they repeat after that length.

        a(p, i)  = 2 pi (i + 1) p / L
        PE(p, i) = sin a(p, i), or cos a(p, i), or sin a(p, i) cos a(p, i)        i = 0, ..., M - 1
        x_p      = scale * embedding_p + PE(p)

    Use it when you study which harmonics an absolute encoding needs. To train a model, `sinusoidal` is the usual
    choice.

    Args:
        d_model: width M.
        length: period L of the slowest harmonic, usually the training length; at least 2.
        components: function of each channel: "sine", "cosine" or their "product".
        scale: factor on the token embeddings before the sum; None is sqrt(M), as for sinusoidal positions.

    No parameters. Causal and bidirectional, for real positions too. Costs M numbers per token, once before the first
    layer. It cannot extrapolate beyond the training length: position p + L equals position p.

    Slow to learn, since neighbouring positions have nothing in common (M = 192 harmonics of L = 256 rotate by up to
    3 / 4 of a circle); less so with a larger `length`, under which neighbours are alike.

    Traps, all of them properties of the formula:
    - At integer positions, harmonics above L / 2 equal those below (aliasing): channel L - k is channel k, with the
      other sign for sines. With M > L / 2 the other channels add nothing, and channel L is constant.
    - Sines are equal at 0 and L / 2, cosines at p and L - p. The product is half the sine of twice the angle: it
      repeats after L / 2, is equal at 0 and L / 4, and is half as large.
    - Channels are spaced evenly in frequency, not geometrically as in `Sinusoidal`: with M << L no channel changes much
      between neighbours, with M near L most change wildly.

    Source: the form in which the Chinese blog article that inspired this project writes sinusoids (there without the
    factor p, which makes it a constant vector); no paper is known. For comparison, not recommended.
    """

    relative = False

    def __init__(
        self,
        d_model: Count,
        length: Annotated[int, Range(at_least=2), NOT_HUGE] = 512,
        components: Components = "sine",
        scale: Positive | None = None,
    ) -> None:
        super().__init__()
        self.length = length
        self.components = components
        self.embedding_scale = d_model**0.5 if scale is None else scale

    def embed(self, x_BTM: Tensor, positions: Positions, tokens: Tokens | None = None) -> Tensor:
        harmonics = torch.arange(1, x_BTM.shape[-1] + 1, device=x_BTM.device)
        # Whole turns are removed before the angle is made, exactly for integer positions: a float32 of 1,000 radians
        # has lost four digits.
        turn = (positions.ids.remainder(self.length).unsqueeze(-1) * harmonics).remainder(self.length)
        angle = turn.to(torch.float32) * (2 * math.pi / self.length)
        if self.components == "sine":
            table = angle.sin()
        elif self.components == "cosine":
            table = angle.cos()
        else:
            table = angle.sin() * angle.cos()
        return x_BTM * self.embedding_scale + table.to(x_BTM.dtype)

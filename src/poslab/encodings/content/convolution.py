"""Short causal convolution over the tokens of a document.

Dimension letters: B batch, G key-value heads, T new tokens, P past tokens, D channels, W tokens that the kernel reads.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from poslab.encodings.positions import Positions


def causal_convolution(
    new_BGTD: Tensor, kernel_GDW: Tensor, positions: Positions, past_BGPD: Tensor | None = None
) -> Tensor:
    """Return the sum over lags w of kernel[w] x_{t - w}, (B, G, T, D), each channel by itself.

    Tokens before the first one of a document, and padding on the left, count as zeros.

    Args:
        new_BGTD: x of the new tokens.
        kernel_GDW: the current token first.
        positions: positions of the past and the new tokens.
        past_BGPD: x of the past tokens; None if there are none.
    """
    reach, length = kernel_GDW.shape[-1] - 1, new_BGTD.shape[2]
    whole = new_BGTD if past_BGPD is None else torch.cat([past_BGPD, new_BGTD], dim=2)
    whole = functional.pad(whole, (0, 0, reach, 0))[:, :, -(reach + length) :]
    follows = functional.pad(_follows_previous_token(positions), (reach, 0))[..., -(reach + length) :]
    kernel = kernel_GDW.to(new_BGTD.dtype).unsqueeze(1)
    convolved = kernel[..., 0] * new_BGTD
    reached = torch.ones_like(follows[..., :length])
    for lag in range(1, reach + 1):
        reached = reached & follows[..., reach - lag + 1 :][..., :length]
        earlier = whole[:, :, reach - lag :][:, :, :length]
        convolved = convolved + kernel[..., lag] * earlier.where(reached[..., None, :, None], 0.0)
    return convolved


def _follows_previous_token(positions: Positions) -> Tensor:
    """Return True where a token continues the one before it, (T,) or (B, T): not in padding or across documents."""
    follows = positions.ids[..., 1:] > positions.ids[..., :-1]
    if positions.segments is not None:
        follows = follows & (positions.segments[:, 1:] == positions.segments[:, :-1])
    return functional.pad(follows, (1, 0))

"""Resonance RoPE: rotary frequencies whose wavelengths are whole numbers of tokens."""

from __future__ import annotations

import inspect
import math

import torch
from torch import Tensor

from poslab.encodings.rotary.scalings import Scaling


def resonance(inverse_frequencies: Tensor, base: float, of: Scaling | None = None) -> tuple[Tensor, float]:
    """Round the wavelength of each pair to a whole number of tokens, after another scaling if there is one.

        theta''(m) = 2 pi / round(2 pi / theta'(m))

    A pair then comes back to the same angles after each wavelength, so that one whose wavelength is shorter than the
    training length meets no new angle in a longer text.

    Use it when a rotary model should work beyond its training length, with or without another scaling: pairs that
    rotate within the training length then meet only angles that they know.

    Args:
        of: a scaling that does not depend on the length, such as `yarn`, whose frequencies theta' and attention factor
            are taken; null leaves theta' = theta (paper: none and YaRN).

    The fastest pair rotates by 2 pi / 6, as 2 pi is rounded to 6. A pair that does not rotate stays so. Wavelengths are
    rounded in float64; positions times frequencies are float32 up to position 2^20, as everywhere, so that angles come
    back exactly only up to the rounding of that product. Learned frequencies get the gradient of those that are not
    rounded.

    Raises:
        ValueError: for a scaling that depends on the length.

    Source: Wang et al., "Resonance RoPE: Improving Context Length Generalization of Large Language Models" (ACL
    2024), section 4.
    """
    factor = 1.0
    if of is not None:
        parameters = inspect.signature(of).parameters
        if "length" in parameters:
            raise ValueError("of must be a scaling that does not depend on the length of the text")
        inverse_frequencies, factor = of(inverse_frequencies, **({"base": base} if "base" in parameters else {}))
    wavelengths = (2 * math.pi / inverse_frequencies.detach().to(torch.float64)).round().clamp_min(1)
    rounded = (2 * math.pi / wavelengths).to(inverse_frequencies.dtype)
    return rounded + (inverse_frequencies - inverse_frequencies.detach()), factor  # a rounding has no gradient
